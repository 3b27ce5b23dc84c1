//! What can go wrong.

/// Why the meter could not do as asked.
#[derive(Debug, thiserror::Error)]
pub enum MeterError {
    /// The sink refused a batch; the same numbers come with the next write.
    #[error("write derived samples: {0}")]
    Write(#[from] paramedic_samples::SamplesError),
    /// The counters begin anew, which queries take for a restart.
    #[error("load the meter's saved state: {0}")]
    Contents(#[from] serde_json::Error),
    #[error("load the meter's saved state: its format is {0}, this version reads {format}", format = crate::save::FORMAT)]
    Format(u32),
}
