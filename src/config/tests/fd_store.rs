//! `fd_store`.

use super::{app, messages};

#[test]
fn a_number_of_descriptors() {
    let read = |more: &str| app(&format!("[[apps]]\nscript = 'server.js'\n{more}")).fd_store;
    assert_eq!(read(""), 0);
    assert_eq!(read("fd_store = 0"), 0);
    assert_eq!(read("fd_store = 200\nlisten = '0.0.0.0:80'"), 200);
    // The first number that neither a socket nor a stored descriptor can have.
    assert_eq!(read("fd_store = 4\nlisten = '0.0.0.0:80'\nready = 'fd:8'"), 4);
}

#[test]
fn nonsense_and_contradictions_are_told() {
    let told = |more: &str| messages(&format!("[[apps]]\nscript = 'server.js'\n{more}"));
    for (text, message) in [
        ("fd_store = 201", "`fd_store` must be between 0 and 200, not 201"),
        ("fd_store = -1", "`fd_store` must be between 0 and 200, not -1"),
        ("fd_store = 1.5", "`fd_store` must be a whole number, not 1.5"),
        ("fd_store = true", "`fd_store` must be a number, not true or false"),
        (
            "fd_store = 4\nlisten = '0.0.0.0:80'\nready = 'fd:7'",
            "`ready = \"fd:7\"` is one of the numbers 3 to 7 that sockets and stored descriptors have",
        ),
    ] {
        assert_eq!(told(text), [message], "{text}");
    }
    let many: Vec<String> = (0..60).map(|port| format!("'127.0.0.1:{}'", 3000 + port)).collect();
    assert_eq!(
        told(&format!("fd_store = 200\nlisten = [{}]", many.join(","))),
        ["`fd_store = 200` and 60 sockets are too many together; 240 are possible"]
    );
}
