//! Where a runbook that somebody names is from: a file, the running instance, or the folders and the library.

use std::path::Path;

use anyhow::Result;
use paramedic_api::operations::runbooks::{RunbookDetail, on_shelf};
use serde_json::json;

use super::{Document, Runbook, Shelf};
use crate::args::Common;
use crate::exit::{Exit, Failure};
use crate::face::{self, Face};

pub(super) enum Found {
    File(Box<Document>),
    Known(Box<RunbookDetail>),
}

/// The running instance; none where nothing runs. One that is named and does not answer is an error.
pub(super) async fn instance(common: &Common) -> Result<Option<Face>> {
    if common.server.is_some() {
        return Face::open_running(common).await.map(Some);
    }
    // A folder is no instance, and an empty one is no reason to refuse what needs none.
    Ok(Face::open_running(common).await.ok().filter(Face::is_running))
}

/// What an instance with these settings would know.
pub(super) fn shelf(common: &Common) -> Result<Shelf> {
    let settings = face::settings(common)?.runbook;
    Ok(Shelf::load(&settings.folders, settings.library))
}

pub(super) fn is_file(which: &str) -> bool {
    Path::new(which).is_file() || which.contains('/') || Path::new(which).extension().is_some_and(|end| end.eq_ignore_ascii_case("md"))
}

pub(super) async fn find(common: &Common, which: &str) -> Result<Found> {
    if is_file(which) {
        return super::read(Path::new(which)).map(|document| Found::File(Box::new(document)));
    }
    if let Some(face) = instance(common).await? {
        return Ok(Found::Known(Box::new(face.get::<RunbookDetail>("runbook.get", &json!({"id": which})).await?.0)));
    }
    let shelved = on_shelf(&shelf(common)?, which).map_err(|error| {
        Failure::new(Exit::NotFound, error.message, "paramedic runbook list lists all runbooks; a file is named with its path")
    })?;
    Ok(Found::Known(Box::new(RunbookDetail::of(&shelved))))
}

/// The runbook of a file that holds one.
pub(super) fn only(document: &Document) -> Result<&Runbook> {
    match document.runbooks.as_slice() {
        [one] => Ok(one),
        [] => Err(Failure::new(Exit::Failed, format!("{}: there is no runbook in it", document.file), "").into()),
        many => Err(Failure::new(
            Exit::Failed,
            format!("{}: there are {} runbooks in it", document.file, many.len()),
            "put its folder into [runbook] folders, and name one by its id",
        )
        .into()),
    }
}
