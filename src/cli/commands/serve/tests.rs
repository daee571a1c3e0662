use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use super::auth::BasicAuth;
use super::site::{self, Site};

fn write(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::OpenOptions::new()
        .create_new(true)
        .write(true)
        .open(path)
        .unwrap()
        .write_all(text.as_bytes())
        .unwrap();
}

/// A folder with pages, a secret beside it, and links out of it.
fn folder() -> tempfile::TempDir {
    let all = tempfile::tempdir().unwrap();
    let root = all.path().join("www");
    write(&root.join("index.html"), "<p>home</p>");
    write(&root.join("a/index.html"), "<p>a</p>");
    write(&root.join("app.js"), "0123456789");
    write(&root.join("ä b.txt"), "umlaut");
    write(&root.join(".env"), "SECRET=1");
    write(&root.join(".well-known/x"), "known");
    write(&all.path().join("secret"), "SECRET=2");
    std::os::unix::fs::symlink(all.path().join("secret"), root.join("link")).unwrap();
    std::os::unix::fs::symlink(all.path(), root.join("up")).unwrap();
    std::os::unix::fs::symlink("app.js", root.join("inside")).unwrap();
    all
}

/// Serves on a free port of a thread that ends with the test.
fn serve(all: &tempfile::TempDir, spa: bool, auth: Option<&str>) -> SocketAddr {
    let site = Site {
        root: all.path().join("www").canonicalize().unwrap(),
        spa,
        auth: auth.map(|text| BasicAuth::parse(text).unwrap()),
    };
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            axum::serve(listener, site::router(site)).await.unwrap();
        });
    });
    address
}

/// Sends one request as it is and returns head and body.
fn ask(address: SocketAddr, first_line: &str, headers: &str) -> (String, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    write!(
        stream,
        "{first_line} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}\r\n"
    )
    .unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.to_ascii_lowercase(), body.to_owned())
}

#[test]
fn sends_pages_with_their_type() {
    let all = folder();
    let address = serve(&all, false, None);
    for (path, kind, text) in [
        ("/", "text/html", "<p>home</p>"),
        ("/a/", "text/html", "<p>a</p>"),
        ("/app.js", "text/javascript", "0123456789"),
        ("/app.js?v=1", "text/javascript", "0123456789"),
        ("/inside", "octet-stream", "0123456789"),
        ("/%C3%A4%20b.txt", "text/plain", "umlaut"),
        ("/.well-known/x", "octet-stream", "known"),
    ] {
        let (head, body) = ask(address, &format!("GET {path}"), "");
        assert!(
            head.starts_with("http/1.1 200") && head.contains(kind),
            "{path}: {head}"
        );
        assert_eq!(body, text, "{path}");
    }
}

#[test]
fn nothing_outside_and_nothing_hidden() {
    let all = folder();
    for spa in [false, true] {
        let address = serve(&all, spa, None);
        for path in [
            "/../secret",
            "/..%2fsecret",
            "/%2e%2e/secret",
            "/a/../../secret",
            "/a/%2e%2e/%2e%2e/secret",
            "/link",
            "/up/secret",
            "/up/www/app.js/../../../secret",
            "/.env",
            "/a/../.env",
            "/%2eenv",
            "/app.js%00.html",
            "//etc/passwd",
            "/%zz",
        ] {
            let (head, body) = ask(address, &format!("GET {path}"), "");
            assert!(!body.contains("SECRET") && !body.contains("root:"), "{path}: {body}");
            assert!(
                head.starts_with("http/1.1 404") || head.starts_with("http/1.1 400") || spa,
                "{path}: {head}"
            );
        }
    }
}

#[test]
fn missing_pages() {
    let all = folder();
    let plain = serve(&all, false, None);
    let (head, body) = ask(plain, "GET /nope", "");
    assert!(head.starts_with("http/1.1 404") && body == "404 not found\n", "{head}");
    write(&all.path().join("www/404.html"), "<p>lost</p>");
    let (head, body) = ask(plain, "GET /nope", "");
    assert!(
        head.starts_with("http/1.1 404") && head.contains("text/html") && body == "<p>lost</p>",
        "{head}"
    );
    let spa = serve(&all, true, None);
    let (head, body) = ask(spa, "GET /users/7", "");
    assert!(
        head.starts_with("http/1.1 200") && head.contains("text/html") && body == "<p>home</p>",
        "{head}"
    );
    let (_, body) = ask(spa, "GET /app.js", "");
    assert_eq!(body, "0123456789");
}

#[test]
fn ranges_heads_and_other_methods() {
    let all = folder();
    let address = serve(&all, false, None);
    let (head, body) = ask(address, "GET /app.js", "Range: bytes=2-4\r\n");
    assert!(
        head.starts_with("http/1.1 206") && head.contains("bytes 2-4/10"),
        "{head}"
    );
    assert_eq!(body, "234");
    let (head, _) = ask(address, "GET /app.js", "Range: bytes=50-60\r\n");
    assert!(head.starts_with("http/1.1 416"), "{head}");
    let (head, body) = ask(address, "HEAD /app.js", "");
    assert!(
        head.starts_with("http/1.1 200") && head.contains("content-length: 10") && body.is_empty(),
        "{head}"
    );
    let (head, _) = ask(address, "POST /app.js", "Content-Length: 0\r\n");
    assert!(head.starts_with("http/1.1 405"), "{head}");
    let (head, _) = ask(
        address,
        "GET /app.js",
        "If-Modified-Since: Fri, 31 Dec 2100 00:00:00 GMT\r\n",
    );
    assert!(head.starts_with("http/1.1 304"), "{head}");
}

#[test]
fn a_password_is_asked_before_anything_else() {
    let all = folder();
    let address = serve(&all, true, Some("user:pass"));
    for path in ["/", "/app.js", "/.env", "/nope"] {
        let (head, body) = ask(address, &format!("GET {path}"), "");
        assert!(
            head.starts_with("http/1.1 401") && head.contains("www-authenticate: basic"),
            "{path}: {head}"
        );
        assert_eq!(body, "401 unauthorized\n");
    }
    let (head, _) = ask(address, "GET /", "Authorization: Basic dXNlcjp3cm9uZw==\r\n");
    assert!(head.starts_with("http/1.1 401"), "{head}");
    let (head, body) = ask(address, "GET /", "Authorization: Basic dXNlcjpwYXNz\r\n");
    assert!(head.starts_with("http/1.1 200") && body == "<p>home</p>", "{head}");
}
