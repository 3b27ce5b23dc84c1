//! Answers of our own: errors in the API's shape, with the signal that makes clients behave.
