//! What an operation may answer instead of a result: what, why, and what to do next.

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use paramedic_action::ActionError;
use paramedic_action::flag::FlagError;
use paramedic_action::switch::SwitchError;
use paramedic_journal::JournalError;
use paramedic_respond::{CommandError, DeskError};
use paramedic_runbook::desk::DeskError as RunError;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

const UNWRITTEN: &str = "nothing was changed; check disk space and `paramedic doctor`";

/// The kinds of refusal, each with its HTTP status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    BadRequest,
    Forbidden,
    NotFound,
    MethodNotAllowed,
    Conflict,
    TooLarge,
    UnsupportedMediaType,
    Internal,
    /// What an operation needs from elsewhere said no, or did not answer.
    BadGateway,
    Unavailable,
}

impl Code {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BadRequest => "bad_request",
            Self::Forbidden => "forbidden",
            Self::NotFound => "not_found",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::Conflict => "conflict",
            Self::TooLarge => "too_large",
            Self::UnsupportedMediaType => "unsupported_media_type",
            Self::Internal => "internal",
            Self::BadGateway => "bad_gateway",
            Self::Unavailable => "unavailable",
        }
    }

    #[must_use]
    pub const fn status(self) -> StatusCode {
        match self {
            Self::BadRequest => StatusCode::BAD_REQUEST,
            Self::Forbidden => StatusCode::FORBIDDEN,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::Conflict => StatusCode::CONFLICT,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
            Self::BadGateway => StatusCode::BAD_GATEWAY,
            Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

/// A refusal with its code, a sentence and what to do next.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    pub code: Code,
    pub message: String,
    pub hint: String,
}

/// The wire form: `{"error":{"code","message","hint"}}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ErrorBody {
    pub error: ErrorDetail,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ErrorDetail {
    pub code: String,
    pub message: String,
    /// What to do next; may be empty.
    pub hint: String,
}

impl ApiError {
    #[must_use]
    pub fn new(code: Code, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { code, message: message.into(), hint: hint.into() }
    }

    /// An input key has a value that cannot be used.
    #[must_use]
    pub fn bad_key(key: &str, why: &str) -> Self {
        Self::new(Code::BadRequest, format!("{key}: {why}"), "see /api/openapi.json for what each operation takes")
    }

    #[must_use]
    pub fn no_agent(id: &str) -> Self {
        Self::new(Code::NotFound, format!("there is no agent {id:?}"), "GET /api/v1/agents lists all agents")
    }

    #[must_use]
    pub fn no_incident(id: &str) -> Self {
        Self::new(Code::NotFound, format!("there is no incident {id:?}"), "GET /api/v1/incidents lists all incidents")
    }
}

impl From<DeskError> for ApiError {
    fn from(error: DeskError) -> Self {
        match error {
            DeskError::Refused(CommandError::NotFound(id)) => Self::no_incident(&id.0),
            DeskError::Refused(refused @ (CommandError::IllegalMove { .. } | CommandError::NotNow { .. })) => {
                Self::new(Code::Conflict, refused.to_string(), "read the incident again: somebody or something may have moved it")
            }
            DeskError::Refused(refused) => {
                Self::new(Code::BadRequest, refused.to_string(), "see /api/openapi.json for what each operation takes")
            }
            DeskError::Journal(error) => error.into(),
        }
    }
}

impl From<RunError> for ApiError {
    fn from(error: RunError) -> Self {
        let message = format!("failed to {error}");
        match error {
            RunError::NotFound { what, .. } => Self::new(
                Code::NotFound,
                message,
                match what {
                    "the runbook" => "GET /api/v1/runbooks lists all runbooks",
                    "the step" => "read the run: it names its steps",
                    _ => "GET /api/v1/runs lists all runs",
                },
            ),
            RunError::Refused { .. } => Self::new(Code::Conflict, message, "read the run again: it says what can be done with each step"),
            RunError::Stale { .. } => {
                Self::new(Code::Conflict, message, "read the run again, look at what would run now, and agree to its new hash")
            }
            RunError::Journal(_) => Self::new(Code::Unavailable, message, UNWRITTEN),
        }
    }
}

impl From<ActionError> for ApiError {
    fn from(error: ActionError) -> Self {
        let message = format!("failed to {error}");
        let (code, hint) = match error {
            ActionError::Unknown(_) => (Code::NotFound, "GET /api/v1/actions lists all actions"),
            ActionError::NotFound { .. } => (Code::NotFound, "nothing was changed"),
            ActionError::Argument { .. } => (Code::BadRequest, "GET /api/v1/actions lists the arguments of each action"),
            ActionError::NotSetUp { .. } => (Code::Conflict, "see `paramedic config` for the settings below [action]"),
            ActionError::Refused { .. } | ActionError::Confirm { .. } | ActionError::Changed { .. } => {
                (Code::Conflict, "nothing was changed")
            }
            ActionError::CalledOff { .. } => (Code::Conflict, ""),
            ActionError::Failed { .. } => (Code::BadGateway, ""),
        };
        Self::new(code, message, hint)
    }
}

impl From<FlagError> for ApiError {
    fn from(error: FlagError) -> Self {
        let message = format!("failed to {error}");
        match error {
            FlagError::Name(_) | FlagError::Past { .. } => Self::new(Code::BadRequest, message, "nothing was changed"),
            FlagError::TooMany { .. } => Self::new(Code::Conflict, message, "nothing was changed"),
            FlagError::Journal(error) => error.into(),
        }
    }
}

impl From<SwitchError> for ApiError {
    fn from(error: SwitchError) -> Self {
        let message = format!("failed to {error}");
        match error {
            SwitchError::NotSet { .. } => Self::new(Code::NotFound, message, "GET /api/v1/switches lists what is set"),
            SwitchError::TooMany { .. } => Self::new(Code::Conflict, message, "nothing was changed"),
            SwitchError::Journal(error) => error.into(),
            SwitchError::Fault(_) | SwitchError::Time { .. } => {
                Self::new(Code::BadRequest, message, "GET /api/v1/switches lists all switches with their values")
            }
        }
    }
}

impl From<JournalError> for ApiError {
    fn from(error: JournalError) -> Self {
        Self::new(Code::Unavailable, format!("failed to use the journal: {error}"), UNWRITTEN)
    }
}

impl From<tokio::task::JoinError> for ApiError {
    fn from(error: tokio::task::JoinError) -> Self {
        Self::new(Code::Internal, format!("failed to finish the operation: {error}"), "this is a defect; the log has more")
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let body = ErrorBody { error: ErrorDetail { code: self.code.as_str().to_owned(), message: self.message, hint: self.hint } };
        let text = serde_json::to_vec(&body).unwrap_or_default();
        (self.code.status(), [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")], text).into_response()
    }
}
