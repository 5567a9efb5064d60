//! A listener that reads and says nothing. Attacked in the broker's place it shows what the hostile
//! bytes cost the machine, and so every server on it, whatever it does with them.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use tokio::io::AsyncReadExt;

use super::TortureError;

/// Read at once from one connection, bytes.
const READ_BYTES: usize = 64 * 1024;

/// Listens on loopback, on this CPU, until the process ends.
pub fn start(cpu: u32) -> Result<SocketAddr, TortureError> {
    let io = TortureError::io;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(io("listen"))?;
    listener.set_nonblocking(true).map_err(io("listen"))?;
    let address = listener.local_addr().map_err(io("listen"))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(io("start the decoy"))?;
    std::thread::spawn(move || {
        if let Err(error) = tuning::pin_current_thread(cpu) {
            eprintln!("the decoy runs where the scheduler likes: {error}");
        }
        runtime.block_on(read_all(listener));
    });
    Ok(address)
}

async fn read_all(listener: TcpListener) {
    let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
    loop {
        // Out of descriptors: those that are left are read on.
        let Ok((mut stream, _)) = listener.accept().await else {
            tokio::task::yield_now().await;
            continue;
        };
        tokio::spawn(async move {
            let mut bytes = vec![0; READ_BYTES];
            while matches!(stream.read(&mut bytes).await, Ok(count) if count > 0) {}
        });
    }
}
