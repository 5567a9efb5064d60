//! What each fault does.

use std::time::Duration;

use model::{PartitionHandle, PartitionIndex};
use rustix::process::Signal;
use tokio::time::{Instant, sleep};

use super::memory::MemoryGroup;
use super::peers::{Crowd, Peer};
use super::{Fault, Run};
use crate::error::ScenarioError;
use crate::process::ProcessError;
use crate::traffic::connect;

const MIB: u64 = 1 << 20;
const PEERS: usize = 64;
/// Of one burst, connections that stay open at once.
const HELD_MAX: usize = 8_000;
/// The server's limit of open files while they run out.
const OPEN_FILES: u64 = 256;
/// More connections than that.
const OPEN_FILES_CROWD: usize = 600;
/// Load under a limit.
const UNDER_LIMIT: Duration = Duration::from_secs(4);
/// A peer whose machine is gone is noticed by then: a minute of silence, then another.
const VANISHED_MAX: Duration = Duration::from_secs(170);

impl Run<'_> {
    pub(super) async fn apply(&mut self, fault: Fault) -> Result<(), ScenarioError> {
        match fault {
            Fault::Kill => {
                self.note(fault, "kills", 1);
                self.restart(None).await?;
            }
            Fault::Pause => self.pause(fault).await?,
            Fault::Resets => self.resets(fault).await?,
            Fault::Vanish => self.vanish(fault).await?,
            Fault::Rush => {
                let attempts = self.options.attempts;
                let crowd = Crowd::rush(self.scene.broker.address(), attempts, HELD_MAX).await;
                self.note_crowd(fault, crowd);
            }
            Fault::Descriptors => self.exhaust_descriptors(fault).await?,
            Fault::MemoryGroup => self.limit_memory(fault).await?,
            Fault::AddressSpace => self.limit_address_space(fault).await?,
            Fault::Mixed => {
                let rush =
                    Crowd::rush(self.scene.broker.address(), self.options.attempts / 4, HELD_MAX);
                let rush = tokio::spawn(rush);
                sleep(Duration::from_millis(self.random.between(10, 300))).await;
                self.restart(None).await?;
                let crowd = rush.await.unwrap_or_default();
                self.note_crowd(fault, crowd);
            }
        }
        if let Some(row) = self.rows.get_mut(&fault)
            && row.skipped.is_none()
        {
            row.times += 1;
        }
        Ok(())
    }

    async fn pause(&mut self, fault: Fault) -> Result<(), ScenarioError> {
        let ms = self.random.between(1_000, 5_000);
        let server = self.scene.broker.server()?;
        server.signal(Signal::STOP)?;
        sleep(Duration::from_millis(ms)).await;
        server.signal(Signal::CONT)?;
        self.note(fault, "ms stopped", ms);
        Ok(())
    }

    /// Readers that never read and writers that stop in a frame, ended with resets.
    async fn resets(&mut self, fault: Fault) -> Result<(), ScenarioError> {
        let peers = self.greedy_peers(PEERS).await?;
        sleep(Duration::from_millis(self.random.between(50, 600))).await;
        self.note(fault, "connections reset", peers.len() as u64);
        peers.into_iter().for_each(Peer::reset);
        Ok(())
    }

    /// Peers that vanish with their machine, some in the middle of being sent to, some idle; other
    /// faults go on while they are missed.
    async fn vanish(&mut self, fault: Fault) -> Result<(), ScenarioError> {
        let handle = self.handle().await?;
        let address = self.scene.broker.address();
        let peers = match &self.namespace {
            Ok(namespace) => namespace.connect(address, PEERS),
            Err(why) => {
                let why = why.clone();
                self.rows.entry(fault).or_default().skipped = Some(why);
                return Ok(());
            }
        };
        let mut peers = peers.map_err(ScenarioError::io("connect from a namespace"))?;
        for peer in peers.iter_mut().step_by(2) {
            peer.subscribe(handle).map_err(ScenarioError::io("subscribe from a namespace"))?;
        }
        sleep(Duration::from_millis(300)).await;
        self.on_wire("cut a wire", super::Namespace::vanish)?;
        let began = Instant::now();
        drop(peers);
        let left = self.on_wire("count connections", super::Namespace::established)?;
        self.note(fault, "peers vanished", left as u64);
        while self.on_wire("count connections", super::Namespace::established)? > 0 {
            if began.elapsed() > VANISHED_MAX {
                let what = "the server's hold on peers that had vanished";
                return Err(ScenarioError::TooLong { what, after: VANISHED_MAX });
            }
            match self.random.between(0, 12) {
                0 => self.pause(fault).await?,
                1 => self.resets(fault).await?,
                _ => sleep(Duration::from_secs(1)).await,
            }
            self.recovered().await?;
            self.scene.check().await?;
        }
        self.note_most(fault, "s until all were missed", began.elapsed().as_secs());
        self.on_wire("mend a wire", super::Namespace::come_back)
    }

    fn on_wire<T>(
        &self,
        doing: &'static str,
        act: impl FnOnce(&super::Namespace) -> std::io::Result<T>,
    ) -> Result<T, ScenarioError> {
        let namespace = self.namespace.as_ref();
        let gone = |why: &String| ScenarioError::Ended { who: "the namespace", how: why.clone() };
        act(namespace.map_err(gone)?).map_err(ScenarioError::io(doing))
    }

    /// More clients than descriptors: those that are served go on being served.
    async fn exhaust_descriptors(&mut self, fault: Fault) -> Result<(), ScenarioError> {
        self.restart(Some(&format!("ulimit -n {OPEN_FILES}"))).await?;
        self.recovered().await?;
        let crowd =
            Crowd::rush(self.scene.broker.address(), OPEN_FILES_CROWD, OPEN_FILES_CROWD).await;
        let before = self.scene.traffic.acknowledged();
        sleep(Duration::from_secs(2)).await;
        self.recovered().await?;
        self.note(
            fault,
            "messages acknowledged without descriptors",
            self.scene.traffic.acknowledged() - before,
        );
        self.note_crowd(fault, crowd);
        // A new client is served again.
        connect(self.scene.broker.address()).await?;
        self.restart(None).await
    }

    /// A limit that the kernel enforces by killing: it must not come to that.
    async fn limit_memory(&mut self, fault: Fault) -> Result<(), ScenarioError> {
        let limit_mib = [256, 320, 512][self.random.between(0, 3) as usize];
        let group = match MemoryGroup::make(limit_mib * MIB) {
            Ok(group) => group,
            Err(error) => {
                let why = format!("cannot make a control group: {error}");
                self.rows.entry(fault).or_default().skipped = Some(why);
                return Ok(());
            }
        };
        let served = self.serve_limited(&group.prelude()).await?;
        if served {
            self.press().await?;
            let resident = self.scene.broker.server()?.resident_bytes_max();
            self.note_most(fault, "MiB resident at most", resident / MIB);
            let peak = group.peak_bytes().map_err(ScenarioError::io("read a control group"))?;
            self.note_most(fault, most_of(limit_mib), peak / MIB);
        }
        self.note(fault, if served { "served" } else { "refused with a sentence" }, 1);
        let kills = group.kills().map_err(ScenarioError::io("read a control group"))?;
        if kills > 0 {
            let text = format!("the kernel killed the server under a limit of {limit_mib} MiB");
            return Err(ScenarioError::Violated(text));
        }
        self.restart(None).await
    }

    async fn limit_address_space(&mut self, fault: Fault) -> Result<(), ScenarioError> {
        let limit_mib = [128, 512, 1024, 4096][self.random.between(0, 4) as usize];
        let served = self.serve_limited(&format!("ulimit -v {}", limit_mib * 1024)).await?;
        if served {
            self.press().await?;
        }
        self.note(fault, if served { "served" } else { "refused with a sentence" }, 1);
        self.restart(None).await
    }

    /// Starts the server under a limit. False: it has refused, as it should, with one sentence.
    async fn serve_limited(&mut self, prelude: &str) -> Result<bool, ScenarioError> {
        self.scene.broker.kill()?;
        let mut server = self.scene.broker.spawn(Some(prelude))?;
        match server.ready().await {
            Ok(_) => {
                self.scene.broker.take(server);
                self.recovered().await?;
                Ok(true)
            }
            Err(error) => {
                let code = server.end().await?.code();
                let ProcessError::Server { log, .. } = &error else { return Err(error.into()) };
                let last = log.lines().last().unwrap_or_default();
                match code == Some(1) && last.starts_with("corelane: ") {
                    true => {
                        self.say(&format!("         refused: {last}"));
                        Ok(false)
                    }
                    false => Err(error.into()),
                }
            }
        }
    }

    /// Load, with peers that make the server hold all they can.
    async fn press(&mut self) -> Result<(), ScenarioError> {
        let mut peers = self.greedy_peers(PEERS).await?;
        let began = Instant::now();
        while began.elapsed() < UNDER_LIMIT {
            sleep(Duration::from_millis(50)).await;
            peers.iter_mut().for_each(Peer::push_frame);
            self.scene.check_alive().await?;
        }
        drop(peers);
        Ok(())
    }

    async fn greedy_peers(&self, count: usize) -> Result<Vec<Peer>, ScenarioError> {
        let handle = self.handle().await?;
        let mut peers = Vec::with_capacity(count);
        for at in 0..count {
            let greedy = Peer::connect(self.scene.broker.address()).and_then(|mut peer| {
                match at % 2 {
                    0 => peer.subscribe(handle)?,
                    _ => peer.begin_frame()?,
                }
                Ok(peer)
            });
            peers.push(greedy.map_err(ScenarioError::io("connect a greedy peer"))?);
        }
        Ok(peers)
    }

    async fn handle(&self) -> Result<PartitionHandle, ScenarioError> {
        let client = connect(self.scene.broker.address()).await?;
        let topic = client.topic(super::TOPIC).await;
        let topic = topic.map_err(ScenarioError::client("ask for a topic"))?;
        topic.handle(PartitionIndex(0)).ok_or_else(|| ScenarioError::Ended {
            who: "a partition",
            how: "the server does not know it".to_owned(),
        })
    }

    fn note_crowd(&mut self, fault: Fault, crowd: Crowd) {
        self.note(fault, "connections made", crowd.connected);
        self.note(fault, "refused or timed out", crowd.refused);
        crowd.disperse();
    }

    fn note(&mut self, fault: Fault, what: &'static str, count: u64) {
        *self.rows.entry(fault).or_default().seen.entry(what).or_default() += count;
    }

    fn note_most(&mut self, fault: Fault, what: &'static str, value: u64) {
        let most = self.rows.entry(fault).or_default().seen.entry(what).or_default();
        *most = value.max(*most);
    }
}

fn most_of(limit_mib: u64) -> &'static str {
    match limit_mib {
        256 => "MiB charged at most of 256",
        320 => "MiB charged at most of 320",
        _ => "MiB charged at most of 512",
    }
}
