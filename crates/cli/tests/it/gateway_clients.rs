//! Real clients through the gateway: Claude Code and the SDKs for Python and JavaScript, against a model API on the loopback.

mod claude_code;
mod faithful;
mod scene;
mod sdk;
mod secrets;
mod upstream;
