//! What a request's body says, and changes of single bytes in it.
