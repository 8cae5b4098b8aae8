//! Asks running instances over HTTP: the first that answers is believed.

use std::time::Duration;

use anyhow::{Context, bail};
use serde_json::Value;

use crate::config::{self, Inputs};

/// Where a cluster is found.
#[derive(Clone, Debug, clap::Args)]
pub struct Where {
    /// Addresses of instances, asked in this order until one answers; default: the configuration's.
    #[arg(long, env = "BATON_ADDRESS", value_name = "URL", value_delimiter = ',')]
    pub address: Vec<String>,
    /// How long one instance may take to answer, in milliseconds.
    #[arg(long, default_value_t = 10_000, value_name = "MS")]
    pub timeout_ms: u64,
}

impl Where {
    /// Reads `path` from the first instance that answers.
    ///
    /// # Errors
    /// No instance answers, or the answer is a problem: its code and detail.
    pub async fn get(&self, path: &str, inputs: &Inputs) -> anyhow::Result<Value> {
        let addresses =
            if self.address.is_empty() { vec![config::address(inputs)?] } else { self.address.clone() };
        let client = reqwest::Client::builder()
            .timeout(Duration::from_millis(self.timeout_ms))
            .build()
            .context("cannot make an HTTP client; see the cause")?;
        let mut silent = Vec::new();
        for address in &addresses {
            let url = format!("{}{path}", address.trim_end_matches('/'));
            match client.get(&url).send().await {
                Ok(response) => {
                    let status = response.status();
                    let body: Value = response
                        .json()
                        .await
                        .with_context(|| format!("{url} answered {status}, not JSON"))?;
                    if !status.is_success() {
                        let text = |name: &str| body[name].as_str().unwrap_or("?").to_owned();
                        bail!("{}: {}", text("code"), text("detail"));
                    }
                    return Ok(body);
                }
                Err(error) => silent.push(format!("{address} does not answer: {error}")),
            }
        }
        bail!("no instance answers; give another instance's address with --address\n{}", silent.join("\n"))
    }
}
