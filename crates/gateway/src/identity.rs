//! Who makes a call: from its headers and its metadata.
