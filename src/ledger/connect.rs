//! Sessions outside the pool, with or without TLS.

use std::pin::Pin;

use futures_util::{Stream, stream};
use ha::PgTls;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_postgres::{AsyncMessage, Client, Config, Connection, Error, NoTls};

use super::{LedgerError, POOL_WAIT};

/// What the server says unasked; the session goes on only while this is polled.
pub(super) type Messages = Pin<Box<dyn Stream<Item = Result<AsyncMessage, Error>> + Send>>;

/// Opens a session, for what is done by it (`to listen for signals`). A server that takes the connection and says nothing is
/// away: the driver's own limit is for each host's connection alone.
///
/// # Errors
/// The failed connection, or [`LedgerError::TimedOut`].
pub(super) async fn connect(
    config: &Config,
    tls: &PgTls,
    operation: &'static str,
) -> Result<(Client, Messages), LedgerError> {
    let hosts = u32::try_from(config.get_hosts().len()).unwrap_or(1).max(1);
    let patience = POOL_WAIT * hosts;
    match tokio::time::timeout(patience, open(config, tls)).await {
        Ok(opened) => opened.map_err(LedgerError::during(operation)),
        Err(_) => Err(LedgerError::TimedOut { within_ms: patience.as_millis() }),
    }
}

async fn open(config: &Config, tls: &PgTls) -> Result<(Client, Messages), Error> {
    match tls {
        PgTls::None => {
            let (client, connection) = config.connect(NoTls).await?;
            Ok((client, messages(connection)))
        }
        PgTls::Rustls(connector) => {
            let (client, connection) = config.connect(connector.clone()).await?;
            Ok((client, messages(connection)))
        }
    }
}

fn messages<S, T>(mut connection: Connection<S, T>) -> Messages
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    Box::pin(stream::poll_fn(move |context| connection.poll_message(context)))
}
