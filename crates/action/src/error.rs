//! Why an action was not done.

/// Each completes "failed to …".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ActionError {
    #[error("find the action {0}: there is none of that name")]
    Unknown(String),
    #[error("read the argument {argument} of {action}: {why}")]
    Argument { action: String, argument: String, why: String },
    /// What it needs is not set up in this instance.
    #[error("carry out {action}: {why}")]
    NotSetUp { action: String, why: String },
    /// What it is to be done to is not there, or is not what was named.
    #[error("find {what}: {why}")]
    NotFound { what: String, why: String },
    /// It would be wrong to do it.
    #[error("carry out {action}: it is refused, because {why}")]
    Refused { action: String, why: String },
    /// Somebody has to type this first, as the argument `confirm`.
    #[error("carry out {action}: type the argument confirm as exactly \"{phrase}\"")]
    Confirm { action: String, phrase: String },
    /// The world changed between the plan and the deed; nothing was done.
    #[error("carry out {action}: what was planned is not so any more: {why}")]
    Changed { action: String, why: String },
    /// The other side could not be reached or said no. What was changed until then is said.
    #[error("carry out {action}: {why}")]
    Failed { action: String, why: String },
    #[error("carry out {action}: it was called off; {done}")]
    CalledOff { action: String, done: String },
}
