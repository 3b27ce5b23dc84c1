//! `paramedic config [default|reference|openapi]`.

use anyhow::Result;
use paramedic_server::settings::{DEFAULT_TOML, reference};

use crate::args::ConfigDocument;
use crate::exit::Exit;
use crate::show;

pub(super) fn config(document: ConfigDocument) -> Result<Exit> {
    match document {
        ConfigDocument::Default => show::line(DEFAULT_TOML.trim_end())?,
        ConfigDocument::Reference => show::line(reference().trim_end())?,
        ConfigDocument::Openapi => show::json(&paramedic_api::openapi::document(env!("CARGO_PKG_VERSION")))?,
    }
    Ok(Exit::Done)
}
