//! Answers in the bridge's words.

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::paper::BridgeMode;
use crate::paper::serve::Cut;

/// What goes back.
#[derive(Clone, Debug)]
pub(super) enum Reply {
    /// A status and a JSON body.
    Json(u16, Value),
    /// A file of contracts.
    Csv(String),
    /// A proxy's error page.
    Html(u16, &'static str),
    /// Nothing: the connection is cut.
    Cut,
}

const BAD_GATEWAY_PAGE: &str = "<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body>\r\n\
    <center><h1>502 Bad Gateway</h1></center>\r\n<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n";

impl Reply {
    /// Success: `status`, and `mode` in analyze shape, added to the fields.
    pub(super) fn success(shape: BridgeMode, fields: Value) -> Self {
        Self::Json(200, with_mode(shape, "success", fields))
    }

    /// An error with a message; analyze shape adds `mode`.
    pub(super) fn error(shape: BridgeMode, status: u16, message: impl Into<Value>) -> Self {
        Self::error_with(shape, status, json!({ "message": message.into() }))
    }

    /// The same with more fields than a message.
    pub(super) fn error_with(shape: BridgeMode, status: u16, fields: Value) -> Self {
        Self::Json(status, with_mode(shape, "error", fields))
    }

    /// An error of the bridge itself, the same in both shapes.
    pub(super) fn plain_error(status: u16, message: impl Into<Value>) -> Self {
        Self::Json(status, json!({ "message": message.into(), "status": "error" }))
    }

    pub(super) fn bad_key() -> Self {
        Self::plain_error(403, "Invalid openalgo apikey")
    }

    pub(super) fn internal(message: &str) -> Self {
        Self::plain_error(500, message)
    }

    /// The framework's body for JSON it cannot read: no `status`.
    pub(super) fn malformed() -> Self {
        let message = "The browser (or proxy) sent a request that this server could not understand.";
        Self::Json(400, json!({ "message": message }))
    }

    /// The limiter's body: no `status`, no Retry-After.
    pub(super) fn limited(per_second: u32) -> Self {
        Self::Json(429, json!({ "message": format!("{per_second} per 1 second") }))
    }

    pub(super) fn not_found(path: &str) -> Self {
        Self::Json(404, json!({ "status": "error", "message": "Not found", "path": path }))
    }

    pub(super) fn health() -> Self {
        Self::Json(200, json!({ "status": "pass" }))
    }

    pub(super) fn bad_gateway() -> Self {
        Self::Html(502, BAD_GATEWAY_PAGE)
    }

    /// The HTTP status; `None` when the line is cut.
    pub(super) fn status(&self) -> Option<u16> {
        match self {
            Self::Json(status, _) | Self::Html(status, _) => Some(*status),
            Self::Csv(_) => Some(200),
            Self::Cut => None,
        }
    }

    /// The body for the log.
    pub(super) fn body(&self) -> Value {
        match self {
            Self::Json(_, body) => body.clone(),
            Self::Html(_, page) => Value::from(*page),
            Self::Csv(text) => Value::from(text.as_str()),
            Self::Cut => Value::Null,
        }
    }

    /// Turns a textual `orderid` into a number, as some brokers' plugins answer.
    pub(super) fn number_the_order_id(&mut self) {
        if let Self::Json(_, body) = self
            && let Some(number) = body["orderid"].as_str().and_then(|id| id.parse::<u64>().ok())
        {
            body["orderid"] = number.into();
        }
    }
}

fn with_mode(shape: BridgeMode, status: &str, fields: Value) -> Value {
    let mut body = fields;
    if let Value::Object(map) = &mut body {
        map.insert("status".to_owned(), status.into());
        if shape == BridgeMode::Analyze {
            map.insert("mode".to_owned(), shape.as_str().into());
        }
    }
    body
}

impl IntoResponse for Reply {
    fn into_response(self) -> Response {
        match self {
            Self::Json(status, body) => (code(status), axum::Json(body)).into_response(),
            Self::Html(status, page) => {
                (code(status), [(header::CONTENT_TYPE, "text/html")], page).into_response()
            }
            Self::Csv(text) => ([(header::CONTENT_TYPE, "text/csv")], text).into_response(),
            Self::Cut => {
                let mut response = Response::default();
                response.extensions_mut().insert(Cut);
                response
            }
        }
    }
}

fn code(status: u16) -> StatusCode {
    StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}
