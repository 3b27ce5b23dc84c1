//! One operation, one definition: routes, the OpenAPI document and command line verbs are all derived from this list.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::context::Context;
use crate::error::{ApiError, Code};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    Get,
    Post,
}

/// What a caller must be allowed to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Permission {
    Read,
    Write,
}

impl Permission {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
        }
    }
}

/// Who asks; written into the journal with every change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    pub actor: String,
}

/// An operation's input before it is typed.
#[derive(Debug, Clone)]
pub enum Input {
    /// Path parameters and query of a read, as one urlencoded query.
    Query(String),
    /// Path parameters and body of a write, as one JSON object.
    Json(serde_json::Value),
}

pub type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;
type Run = dyn Fn(Arc<Context>, Caller, Input) -> BoxFuture<Result<Vec<u8>, ApiError>> + Send + Sync;

/// Something that can be asked of Paramedic.
#[derive(Clone)]
pub struct Operation {
    /// `incident.note`: noun, dot, verb.
    pub id: &'static str,
    pub method: Method,
    /// `/api/v1/incidents/{id}/note`; `{*id}` takes the rest of the path, slashes included.
    pub path: &'static str,
    pub summary: &'static str,
    pub permission: Permission,
    /// The largest body that it takes, in bytes.
    pub body_bytes_max: usize,
    input: fn(&mut SchemaGenerator) -> Schema,
    output: fn(&mut SchemaGenerator) -> Schema,
    run: Arc<Run>,
}

impl Operation {
    /// Joins the types and the function to the description.
    pub(crate) fn new<I, O, F, R>(
        id: &'static str,
        (method, path): (Method, &'static str),
        summary: &'static str,
        permission: Permission,
        handler: F,
    ) -> Self
    where
        I: DeserializeOwned + JsonSchema + Send + 'static,
        O: Serialize + JsonSchema,
        F: Fn(Arc<Context>, Caller, I) -> R + Clone + Send + Sync + 'static,
        R: Future<Output = Result<O, ApiError>> + Send + 'static,
    {
        let run = move |context: Arc<Context>, caller: Caller, input: Input| -> BoxFuture<Result<Vec<u8>, ApiError>> {
            let handler = handler.clone();
            Box::pin(async move {
                let output = handler(context, caller, typed(input)?).await?;
                serde_json::to_vec(&output)
                    .map_err(|error| ApiError::new(Code::Internal, format!("failed to write the answer: {error}"), "this is a defect"))
            })
        };
        let body_bytes_max = crate::http::BODY_BYTES_MAX;
        Self { id, method, path, summary, permission, body_bytes_max, input: I::json_schema, output: O::json_schema, run: Arc::new(run) }
    }

    /// The operation with room for larger bodies.
    #[must_use]
    pub(crate) const fn taking(mut self, body_bytes_max: usize) -> Self {
        self.body_bytes_max = body_bytes_max;
        self
    }

    #[must_use]
    pub fn input_schema(&self, generator: &mut SchemaGenerator) -> Schema {
        (self.input)(generator)
    }

    #[must_use]
    pub fn output_schema(&self, generator: &mut SchemaGenerator) -> Schema {
        (self.output)(generator)
    }

    /// Names of the path's parameters, in order.
    pub fn path_parameters(&self) -> impl Iterator<Item = &'static str> {
        self.path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}')).map(|name| name.trim_start_matches('*'))
    }

    /// The path as documents write it: without the mark for "takes the rest".
    #[must_use]
    pub fn template(&self) -> String {
        self.path.replace("{*", "{")
    }

    /// Runs it; the answer is JSON.
    pub fn call(&self, context: Arc<Context>, caller: Caller, input: Input) -> BoxFuture<Result<Vec<u8>, ApiError>> {
        (self.run)(context, caller, input)
    }
}

fn typed<I: DeserializeOwned>(input: Input) -> Result<I, ApiError> {
    let hint = "see /api/openapi.json for what each operation takes";
    match input {
        Input::Json(value) => {
            I::deserialize(value).map_err(|error| ApiError::new(Code::BadRequest, format!("the input cannot be used: {error}"), hint))
        }
        Input::Query(query) => {
            let uri = axum::http::Uri::try_from(format!("/?{query}"))
                .map_err(|_| ApiError::new(Code::BadRequest, "the query string is not a valid one", hint))?;
            axum::extract::Query::<I>::try_from_uri(&uri).map(|query| query.0).map_err(|error| {
                let text = error.body_text();
                let text = text.strip_prefix("Failed to deserialize query string: ").unwrap_or(&text);
                ApiError::new(Code::BadRequest, format!("the query cannot be used: {text}"), hint)
            })
        }
    }
}

/// Every operation there is.
#[must_use]
pub fn operations() -> Vec<Operation> {
    let mut all = Vec::new();
    crate::operations::status::register(&mut all);
    crate::operations::agents::register(&mut all);
    crate::operations::incidents::register(&mut all);
    crate::operations::alerts::register(&mut all);
    crate::operations::rules::register(&mut all);
    crate::operations::events::register(&mut all);
    crate::operations::cost::register(&mut all);
    crate::operations::journal::register(&mut all);
    crate::operations::runbooks::register(&mut all);
    crate::operations::runs::register(&mut all);
    crate::operations::actions::register(&mut all);
    crate::operations::brake::register(&mut all);
    crate::operations::switches::register(&mut all);
    crate::operations::flags::register(&mut all);
    crate::operations::gateway::register(&mut all);
    all
}
