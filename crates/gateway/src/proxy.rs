//! Connections: taken from clients, kept to upstreams, and the bytes between them.
