//! A backup under way: the server keeps its files as they are while this value lives.

use model::{BackupPoint, Reply, Request};
use tokio::time::Instant;

use crate::client::Client;
use crate::connection::Connection;
use crate::error::Error;
use crate::routes::unexpected;

/// A backup that the server has begun. It ends with [`Backup::end`], or when its connection is
/// lost; then the server is free to use the files again.
#[must_use = "the backup ends when this is dropped"]
pub struct Backup {
    /// A backup belongs to its connection: there is no trying again over another one.
    connection: Connection,
    client: Client,
    point: BackupPoint,
}

impl Client {
    /// Asks the server to keep all files of its logs as they are, and what there is to copy.
    /// `nonce` is any bytes: the answer's identity is made from them and the directory's secret.
    pub async fn begin_backup(&self, nonce: [u8; 16]) -> Result<Backup, Error> {
        let connection = self.routes.main().await?;
        match connection.call(&Request::BackupBegin { nonce }, self.deadline()).await? {
            Reply::BackupBegun(point) => {
                Ok(Backup { connection, client: self.clone(), point: *point })
            }
            reply => Err(unexpected(&reply)),
        }
    }

    fn deadline(&self) -> Instant {
        self.routes.deadline()
    }
}

impl Backup {
    /// What there is to copy.
    pub fn point(&self) -> &BackupPoint {
        &self.point
    }

    /// A sign of life; call it more often than the point's `silent_ms_max`. An error with
    /// [`model::ErrorCode::BackupBroken`]: the files are not kept any more.
    pub async fn keep(&self) -> Result<(), Error> {
        let request = Request::BackupKeep { backup: self.point.backup };
        match self.connection.call(&request, self.client.deadline()).await? {
            Reply::BackupKept => Ok(()),
            reply => Err(unexpected(&reply)),
        }
    }

    /// Says that everything is copied. When this returns without an error, all files were kept
    /// until now.
    pub async fn end(self) -> Result<(), Error> {
        let request = Request::BackupEnd { backup: self.point.backup };
        match self.connection.call(&request, self.client.deadline()).await? {
            Reply::BackupEnded => Ok(()),
            reply => Err(unexpected(&reply)),
        }
    }
}
