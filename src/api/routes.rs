//! The route table: one place for both sides and for the OpenAPI document.

/// One route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// `GET` or `POST`.
    pub method: &'static str,
    /// The path, without query.
    pub path: &'static str,
    /// One line for the OpenAPI document.
    pub summary: &'static str,
}

macro_rules! routes {
    ($($name:ident = $method:literal $path:literal $summary:literal;)*) => {
        $(#[doc = $summary] pub const $name: Route = Route { method: $method, path: $path, summary: $summary };)*
        /// All of them.
        pub const ALL: &[Route] = &[$($name),*];
    };
}

routes! {
    PING = "GET" "/v1/ping" "Who answers: version, pids, uptime.";
    HEALTH = "GET" "/health" "Status 200 if everything that is wanted is ready, else 503.";
    STATUS = "GET" "/v1/status" "All apps, or those meant by `target` (repeatable).";
    DESCRIBE = "GET" "/v1/describe" "Everything about the apps meant by `target`.";
    ENV = "GET" "/v1/env" "The environment of the instances meant by `target`; masked unless `reveal=true`.";
    LOG_SOURCES = "GET" "/v1/logs/sources" "The log files of the apps meant by `target`.";
    LOGS = "GET" "/v1/logs" "Lines of logs, as NDJSON or, if the client accepts `text/event-stream`, as server-sent events.";
    EVENTS = "GET" "/v1/events" "Events as NDJSON: `since` (ms since 1970), `after` (seq), `target`, `kind`, `limit`, `follow=true`.";
    APPLY = "POST" "/v1/apply" "Make these apps known and running.";
    START = "POST" "/v1/start" "Start known apps.";
    STOP = "POST" "/v1/stop" "Stop apps or instances.";
    RESTART = "POST" "/v1/restart" "Stop and start.";
    RELOAD = "POST" "/v1/reload" "Replace the running generation, one instance after the other.";
    DELETE = "POST" "/v1/delete" "Stop apps and forget them.";
    SCALE = "POST" "/v1/scale" "Change the number of instances.";
    RESET = "POST" "/v1/reset" "Set restart counters to zero and close circuits.";
    SIGNAL = "POST" "/v1/signal" "Send a signal to instances.";
    SEND = "POST" "/v1/send" "Write to the standard input of instances.";
    TRIGGER = "POST" "/v1/trigger" "Ask instances to do an action that they announced, and wait for their answers.";
    FLUSH = "POST" "/v1/flush" "Empty the log files.";
    REOPEN = "POST" "/v1/reopen" "Open the log files anew after somebody else has renamed them.";
    SAVE = "POST" "/v1/save" "Check that the state is on disk.";
    KILL = "POST" "/v1/kill" "Stop all apps, the daemon and the keeper; what is wanted stays wanted.";
    UPGRADE = "POST" "/v1/upgrade" "Replace daemon and keeper by another build; answers when it has begun.";
    UPGRADE_OUTCOME = "GET" "/v1/upgrade/outcome" "How the last upgrade ended.";
    OPENAPI = "GET" "/v1/openapi.json" "This interface.";
}
