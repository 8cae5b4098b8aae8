//! Sessions outside the pool, with or without TLS.

use std::pin::Pin;

use futures_util::{Stream, stream};
use ha::PgTls;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_postgres::{AsyncMessage, Client, Config, Connection, Error, NoTls};

/// What the server says unasked; the session goes on only while this is polled.
pub(super) type Messages = Pin<Box<dyn Stream<Item = Result<AsyncMessage, Error>> + Send>>;

/// Opens a session.
pub(super) async fn connect(config: &Config, tls: &PgTls) -> Result<(Client, Messages), Error> {
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
