//! A CPU for the threads that are no core: signals, start and stop, what executors keep beside them.

use crate::cpu_set::CpuSet;
use crate::host::Host;
use crate::placement::CoreRequest;

/// Why a CPU cannot be the control threads'.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ControlCpuError {
    #[error("server.control_cpu is {cpu}, which is not online; online are {online}")]
    Offline { cpu: u32, online: CpuSet },
    #[error(
        "server.control_cpu is {cpu}, which is outside the affinity mask {mask}; choose from \
         {mask}, or widen the mask (taskset -c, CPUAffinity= of the systemd unit)"
    )]
    OutsideMask { cpu: u32, mask: CpuSet },
}

impl Host {
    /// Sets a CPU aside for the control threads. Cores that are not listed one by one keep off it
    /// where there are enough others.
    pub fn reserve_control(&mut self, cpu: u32) -> Result<(), ControlCpuError> {
        if self.topology.cpu(cpu).is_none() {
            return Err(ControlCpuError::Offline { cpu, online: self.topology.online() });
        }
        if !self.allowed.contains(cpu) {
            return Err(ControlCpuError::OutsideMask { cpu, mask: self.allowed.clone() });
        }
        self.control = Some(cpu);
        Ok(())
    }

    /// The host as cores may use it, where that is less than all of it.
    pub(crate) fn beside_control(&self, request: &CoreRequest) -> Option<Host> {
        let control: CpuSet = [self.control?].into_iter().collect();
        let left = self.allowed.without(&control);
        let enough = match request {
            CoreRequest::Auto | CoreRequest::PerNumaNode => !left.is_empty(),
            CoreRequest::Count(count) => *count <= left.len(),
            CoreRequest::List(_) => false,
        };
        enough.then(|| Host { allowed: left, ..self.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::Fixture;
    use crate::placement::{Placement, choose_cores};

    fn choose(cpus: u32, control: u32, request: &CoreRequest) -> Placement {
        let mut host = Fixture::flat(cpus).host();
        host.reserve_control(control).unwrap();
        choose_cores(request, &host).unwrap()
    }

    fn cpus(placement: &Placement) -> Vec<u32> {
        placement.cpus.iter().flatten().copied().collect()
    }

    #[test]
    fn cores_keep_off_it_where_others_are_left() {
        let placement = choose(4, 3, &CoreRequest::Auto);
        assert_eq!((cpus(&placement), placement.warnings.len()), (vec![0, 1, 2], 0));
        assert!(
            placement.why.ends_with("every CPU allowed but 3, which the control threads have"),
            "{}",
            placement.why
        );
        let placement = choose(4, 0, &CoreRequest::Count(3));
        assert_eq!((cpus(&placement), placement.warnings.len()), (vec![1, 2, 3], 0));
        let placement = choose(4, 1, &CoreRequest::PerNumaNode);
        assert_eq!(cpus(&placement), [0, 2, 3]);
    }

    #[test]
    fn a_shared_one_is_said() {
        for (count, control, request) in
            [(1, 0, CoreRequest::Auto), (4, 2, CoreRequest::Count(4)), (4, 2, list(&[1, 2]))]
        {
            let placement = choose(count, control, &request);
            assert!(placement.pinned().contains(control), "{request}");
            assert!(placement.warnings[0].contains("control threads"), "{:?}", placement.warnings);
        }
        assert!(choose(4, 3, &list(&[1, 2])).warnings.is_empty());
    }

    #[test]
    fn what_cannot_be_is_refused_with_a_sentence() {
        let fixture = Fixture::flat(4);
        fixture.allow("0-2");
        let mut host = fixture.host();
        let error = host.reserve_control(3).unwrap_err().to_string();
        assert!(error.contains("outside the affinity mask 0-2"), "{error}");
        let error = host.reserve_control(9).unwrap_err().to_string();
        assert!(error.contains("not online") && error.contains("0-3"), "{error}");
        assert_eq!(host.control, None);
    }

    fn list(cpus: &[u32]) -> CoreRequest {
        CoreRequest::List(cpus.to_vec())
    }
}
