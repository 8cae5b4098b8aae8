//! An HTTP server that takes what Alertmanager delivers, and what Baton does.

use std::sync::{Arc, Mutex};

use axum::Json;
use axum::Router;
use axum::extract::{Path, State};
use axum::routing::post;
use serde_json::Value;

/// Where each delivery went, and what it said.
type Deliveries = Arc<Mutex<Vec<(String, Value)>>>;

/// The running server.
pub struct Receiver {
    /// Its base URL; what follows names the receiver.
    pub url: String,
    deliveries: Deliveries,
}

impl Receiver {
    pub async fn start() -> Self {
        let deliveries = Deliveries::default();
        let routes = Router::new().route("/{receiver}", post(take)).with_state(Arc::clone(&deliveries));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, routes).await });
        Self { url, deliveries }
    }

    /// How often something was delivered to a receiver.
    pub fn deliveries_to(&self, receiver: &str) -> usize {
        self.deliveries.lock().unwrap().iter().filter(|(path, _)| path == receiver).count()
    }

    /// Alerts of this name that a receiver was told of.
    pub fn heard(&self, receiver: &str, alert: &str) -> Vec<Value> {
        let deliveries = self.deliveries.lock().unwrap();
        let to = deliveries.iter().filter(|(path, _)| path == receiver);
        let alerts = to.flat_map(|(_, body)| body["alerts"].as_array().cloned().unwrap_or_default());
        alerts.filter(|found| found["labels"]["alertname"] == alert).collect()
    }
}

async fn take(State(deliveries): State<Deliveries>, Path(receiver): Path<String>, Json(body): Json<Value>) {
    deliveries.lock().unwrap().push((receiver, body));
}
