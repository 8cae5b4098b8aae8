//! How verbs reach a running cluster: any instance's HTTP interface, with the operator's token for changes.
//!
//! A question may be put to one instance after the other until one answers. A change is put to the first that can be
//! connected to, once: when its answer is lost, nobody knows whether it was done, and the error says so.

use std::time::Duration;

use anyhow::{Context, bail};
use reqwest::{Client, RequestBuilder, Response};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;

use super::ask;
use super::output::Output;
use crate::config::{self, Inputs, OPERATOR_HEADER};

/// Where a cluster is found.
#[derive(Clone, Debug, clap::Args)]
pub struct Target {
    /// Addresses of instances, asked in this order until one answers; default: the configuration's.
    #[arg(long, global = true, env = "BATON_ADDRESS", value_name = "URL", value_delimiter = ',')]
    pub address: Vec<String>,
    /// How long one instance may take to answer, in milliseconds.
    #[arg(long, global = true, default_value_t = 10_000, value_name = "MS")]
    pub timeout_ms: u64,
}

/// What a change needs beside its own arguments.
#[derive(Clone, Debug, clap::Args)]
pub struct Change {
    /// Why; kept with the change.
    #[arg(long, value_name = "TEXT")]
    pub reason: String,
    /// Do it without asking for the cluster's name.
    #[arg(long)]
    pub yes: bool,
}

/// Speaks to a cluster.
pub struct Caller {
    addresses: Vec<String>,
    client: Client,
    token: Option<SecretString>,
    operator: String,
}

impl Target {
    /// Makes a caller; the operator's token comes from the configuration, the operator's name from the environment.
    ///
    /// # Errors
    /// The address or the token cannot be read from the configuration.
    pub fn caller(self, inputs: &Inputs) -> anyhow::Result<Caller> {
        let token = config::operator_token(inputs)?;
        self.with(token, inputs)
    }

    /// Makes a caller that speaks as a sender of signals.
    ///
    /// # Errors
    /// The address or the token cannot be read from the configuration.
    pub fn sender(self, inputs: &Inputs) -> anyhow::Result<Caller> {
        let token = config::signals_token(inputs)?;
        self.with(token, inputs)
    }

    fn with(self, token: Option<SecretString>, inputs: &Inputs) -> anyhow::Result<Caller> {
        let addresses = if self.address.is_empty() { vec![config::address(inputs)?] } else { self.address };
        let addresses = addresses.iter().map(|url| url.trim_end_matches('/').to_owned()).collect();
        let client = Client::builder()
            .timeout(Duration::from_millis(self.timeout_ms))
            .build()
            .context("cannot make an HTTP client; see the cause")?;
        let operator = ["USER", "LOGNAME"].iter().find_map(|name| inputs.env.get(*name)).cloned();
        Ok(Caller { addresses, client, token, operator: operator.unwrap_or_else(|| "cli".to_owned()) })
    }
}

impl Caller {
    /// Reads `path` from the first instance that answers.
    ///
    /// # Errors
    /// No instance answers, or the answer is a problem.
    pub async fn get(&self, path: &str) -> anyhow::Result<Value> {
        self.question(path, |url| self.client.get(url)).await
    }

    /// Puts a question that has a body of JSON to the first instance that answers.
    ///
    /// # Errors
    /// No instance answers, or the answer is a problem.
    pub async fn ask(&self, path: &str, body: &str) -> anyhow::Result<Value> {
        let json = "application/json";
        let request = |url: &str| self.client.post(url).header("content-type", json).body(body.to_owned());
        self.question(path, request).await
    }

    async fn question(&self, path: &str, request: impl Fn(&str) -> RequestBuilder) -> anyhow::Result<Value> {
        let mut silent = Vec::new();
        for address in &self.addresses {
            let url = format!("{address}{path}");
            match self.signed(request(&url)).send().await {
                Ok(answer) => return document(&url, answer).await,
                Err(error) => silent.push(format!("{address} does not answer: {}", plain(&error))),
            }
        }
        bail!(nobody(&silent))
    }

    /// Reads a URL as it is, whatever status it answers with.
    ///
    /// # Errors
    /// Nobody answers there.
    pub async fn text(&self, url: &str) -> anyhow::Result<String> {
        let silent = |error: reqwest::Error| anyhow::anyhow!("{url} does not answer: {}", plain(&error));
        self.signed(self.client.get(url)).send().await.map_err(silent)?.text().await.map_err(silent)
    }

    /// Where instances are asked.
    pub fn addresses(&self) -> &[String] {
        &self.addresses
    }

    /// Asks for a change: once, of the first instance that can be connected to.
    ///
    /// # Errors
    /// No instance can be reached, it refused, or its answer was lost.
    pub async fn post(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        let mut silent = Vec::new();
        for address in &self.addresses {
            let url = format!("{address}{path}");
            match self.signed(self.client.post(&url)).json(body).send().await {
                Ok(answer) => return document(&url, answer).await,
                Err(error) if error.is_connect() => {
                    silent.push(format!("{address} does not answer: {}", plain(&error)));
                }
                Err(error) => bail!(
                    "POST {url} got no answer ({}): whether it was done is not known; look with `baton status` before \
                     you repeat it",
                    plain(&error)
                ),
            }
        }
        bail!(nobody(&silent))
    }

    /// Says what is about to be done and asks for the cluster's name, unless `--yes`.
    ///
    /// # Errors
    /// The name was not typed, or there is nobody to ask.
    pub async fn confirm(&self, change: &Change, what: &str, output: &Output) -> anyhow::Result<()> {
        if change.yes {
            return Ok(());
        }
        let cluster = self.get("/api/v1/cluster").await?;
        let name = cluster["cluster"].as_str().unwrap_or_default();
        ask::cluster(what, name, cluster["mode"].as_str().unwrap_or("unknown"), false, output)
    }

    fn signed(&self, request: RequestBuilder) -> RequestBuilder {
        let request = request.header(OPERATOR_HEADER, &self.operator);
        match &self.token {
            Some(token) => request.bearer_auth(token.expose_secret()),
            None => request,
        }
    }
}

async fn document(url: &str, answer: Response) -> anyhow::Result<Value> {
    let status = answer.status();
    let body: Value = answer.json().await.with_context(|| {
        format!("{url} answered {status}, but not as a baton instance of this version does")
    })?;
    if status.is_success() {
        return Ok(body);
    }
    let code = body["code"].as_str().unwrap_or("no code");
    let detail = body["detail"].as_str().unwrap_or("no detail");
    let faults = body["faults"].as_array().map(|faults| {
        let each = faults.iter().map(|fault| {
            format!(
                "\n  {}: {}",
                fault["field"].as_str().unwrap_or("?"),
                fault["message"].as_str().unwrap_or("?")
            )
        });
        each.collect::<String>()
    });
    bail!("{url} answered {} {code}: {detail}{}", status.as_u16(), faults.unwrap_or_default())
}

fn nobody(silent: &[String]) -> String {
    format!(
        "no instance answers: {}; give another instance's address with --address, or start one with `baton run`",
        silent.join("; ")
    )
}

/// An error without the URL, which the sentence around it has already.
fn plain(error: &reqwest::Error) -> String {
    let mut text = String::new();
    let mut source: Option<&dyn std::error::Error> = Some(error);
    while let Some(error) = source {
        text = error.to_string();
        source = error.source();
    }
    text
}
