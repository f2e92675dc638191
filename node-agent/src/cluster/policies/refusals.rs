//! What the server refused while the agent reported on policies.

use std::fmt;

use octavia_bridge_cluster::ApiError;

/// The refusals of one round. A policy of which the server will hear nothing does not keep it from hearing of others.
#[derive(Debug, Default)]
pub(super) struct Refusals(Vec<ApiError>);

impl Refusals {
    /// The result, `None` for a refusal.
    ///
    /// # Errors
    /// A server that does not answer will not for the next policy either.
    pub(super) fn note<T>(&mut self, asked: Result<T, ApiError>) -> Result<Option<T>, ApiError> {
        match asked {
            Ok(result) => Ok(Some(result)),
            Err(error) if error.code().is_some() => {
                self.push(error);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    pub(super) fn push(&mut self, error: ApiError) {
        self.0.push(error);
    }
}

impl fmt::Display for Refusals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let texts: Vec<String> = self.0.iter().map(ApiError::in_words).collect();
        f.write_str(&texts.join("; "))
    }
}
