//! The style, the script and the icon, under names that change with their content, so that browsers may keep them.

use axum::extract::Path;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};

struct Asset {
    name: &'static str,
    extension: &'static str,
    content_type: &'static str,
    body: &'static str,
}

const STYLE: Asset =
    Asset { name: "paramedic", extension: "css", content_type: "text/css; charset=utf-8", body: include_str!("../assets/paramedic.css") };
const SCRIPT: Asset = Asset {
    name: "paramedic",
    extension: "js",
    content_type: "text/javascript; charset=utf-8",
    body: include_str!("../assets/paramedic.js"),
};
const ICON: Asset = Asset { name: "icon", extension: "svg", content_type: "image/svg+xml", body: include_str!("../assets/icon.svg") };

impl Asset {
    fn path(&self) -> String {
        format!("/assets/{}.{:016x}.{}", self.name, fnv1a(self.body.as_bytes()), self.extension)
    }
}

/// FNV-1a, 64 bits: enough to tell two builds' files apart, and computed when compiling.
pub(crate) const fn fnv1a(bytes: &[u8]) -> u64 {
    let (mut hash, mut i) = (0xcbf2_9ce4_8422_2325_u64, 0);
    while i < bytes.len() {
        hash = (hash ^ bytes[i] as u64).wrapping_mul(0x0100_0000_01b3);
        i += 1;
    }
    hash
}

pub(crate) fn style_path() -> String {
    STYLE.path()
}

pub(crate) fn script_path() -> String {
    SCRIPT.path()
}

pub(crate) fn icon_path() -> String {
    ICON.path()
}

pub(crate) async fn serve(Path(name): Path<String>) -> Response {
    let asked = format!("/assets/{name}");
    match [STYLE, SCRIPT, ICON].into_iter().find(|asset| asset.path() == asked) {
        Some(asset) => {
            let headers = [
                (header::CONTENT_TYPE, asset.content_type),
                (header::CACHE_CONTROL, "public, max-age=31536000, immutable"),
                (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
            ];
            (headers, asset.body).into_response()
        }
        None => (StatusCode::NOT_FOUND, "there is no such asset\n").into_response(),
    }
}
