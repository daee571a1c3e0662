//! HTTP basic authentication.

use std::fmt;

use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// One user and one password.
#[derive(Clone)]
pub(super) struct BasicAuth {
    expected: Vec<u8>,
}

impl fmt::Debug for BasicAuth {
    /// Without the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BasicAuth")
    }
}

impl BasicAuth {
    /// Reads `USER:PASS`; the user must not be empty.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (user, _) = text.split_once(':')?;
        (!user.is_empty()).then(|| Self {
            expected: text.as_bytes().to_vec(),
        })
    }

    /// The request may pass.
    pub(super) fn allows(&self, headers: &HeaderMap) -> bool {
        let given = headers
            .get(AUTHORIZATION)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| {
                let (scheme, credentials) = value.split_once(' ')?;
                let credentials = scheme.eq_ignore_ascii_case("basic").then_some(credentials)?;
                STANDARD.decode(credentials.trim()).ok()
            });
        given.is_some_and(|given| same(&given, &self.expected))
    }
}

/// Compares in a time that depends on the lengths only.
fn same(one: &[u8], other: &[u8]) -> bool {
    let differences = one.iter().zip(other).fold(0, |sum, (a, b)| sum | (a ^ b));
    one.len() == other.len() && std::hint::black_box(differences) == 0
}

#[cfg(test)]
mod tests {
    use super::BasicAuth;
    use axum::http::{HeaderMap, HeaderValue};

    #[test]
    fn only_the_right_user_with_the_right_password() {
        let auth = BasicAuth::parse("user:pa:ss").unwrap();
        let allows = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("authorization", HeaderValue::from_str(value).unwrap());
            auth.allows(&headers)
        };
        assert!(allows("Basic dXNlcjpwYTpzcw=="));
        assert!(allows("basic dXNlcjpwYTpzcw=="));
        for wrong in [
            "Basic dXNlcjpwYTpz",
            "Basic",
            "Bearer dXNlcjpwYTpzcw==",
            "Basic !!",
            "Basic ",
            "dXNlcjpwYTpzcw==",
        ] {
            assert!(!allows(wrong), "{wrong}");
        }
        assert!(!auth.allows(&HeaderMap::new()));
        assert!(BasicAuth::parse("nocolon").is_none() && BasicAuth::parse(":x").is_none());
        assert!(!format!("{auth:?}").contains("pa"));
    }
}
