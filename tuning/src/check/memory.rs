//! Memory: its limit, huge pages, swap.

use super::Scene;
use super::finding::{Better, Findings};
use super::look::{Look, Seen, chosen};
use crate::memory::{CacheFit, MemorySource};

const MIB: u64 = 1 << 20;
/// More swappiness than this lets the kernel push out pages that are only quiet for a while.
const SWAPPINESS_MAX: u64 = 10;

pub fn check(scene: &Scene<'_>, look: &Look, findings: &mut Findings) {
    check_limit(scene, findings);
    check_huge_pages(look, findings);
    check_defrag(look, findings);
    check_swap(look, findings);
}

fn check_limit(scene: &Scene<'_>, findings: &mut Findings) {
    let id = "memory.limit";
    let memory = scene.host.memory;
    let cores = scene.cores();
    let configured = scene.subject.cache_bytes;
    let cache = if configured == 0 { memory.cache_budget_bytes(cores) } else { configured };
    let whose = match memory.source {
        MemorySource::ControlGroup => "control group",
        MemorySource::Machine => "machine",
    };
    let is = format!(
        "{} MiB ({whose}), of which the cache takes {} MiB",
        memory.bytes / MIB,
        cache / MIB
    );
    match memory.fit_cache(cache, 0, cores, configured != 0) {
        CacheFit::Fits => findings.good(id, is),
        CacheFit::Tight(sentence) => findings.costs(
            id,
            is,
            Better {
                wanted: &sentence,
                costs: "the kernel may end the broker when both are full",
                fix: "",
            },
        ),
        CacheFit::Impossible(sentence) => findings.fails(
            id,
            is,
            Better { wanted: &sentence, costs: "the broker does not start", fix: "" },
        ),
    }
}

fn check_huge_pages(look: &Look, findings: &mut Findings) {
    let id = "memory.huge_pages";
    let file = "kernel/mm/transparent_hugepage/enabled";
    let costs = "blocks and caches lie on 4 KiB pages: direct writes of large blocks are split \
                 into many parts and cost up to 1.4 times the CPU, and every cache miss is also a \
                 TLB miss";
    match look.sys(file) {
        Seen::Text(text) if chosen(&text) == "never" => findings.costs(
            id,
            "transparent huge pages: never",
            Better {
                wanted: "madvise: the broker asks for them where they help",
                costs,
                fix: "echo madvise > /sys/kernel/mm/transparent_hugepage/enabled",
            },
        ),
        Seen::Text(text) if chosen(&text) == "always" => findings.note(
            id,
            "transparent huge pages: always",
            Better {
                wanted: "madvise: the broker asks for them where they help",
                costs: "every program's memory grows in steps of 2 MiB, also where little is used",
                fix: "echo madvise > /sys/kernel/mm/transparent_hugepage/enabled",
            },
        ),
        Seen::Text(text) => findings.good(id, format!("transparent huge pages: {}", chosen(&text))),
        Seen::Absent => findings.costs(
            id,
            "this kernel has no transparent huge pages",
            Better { wanted: "a kernel with CONFIG_TRANSPARENT_HUGEPAGE", costs, fix: "" },
        ),
        Seen::Unreadable(why) => findings.unknown(id, why),
    }
}

fn check_defrag(look: &Look, findings: &mut Findings) {
    let id = "memory.huge_page_defrag";
    match look.sys("kernel/mm/transparent_hugepage/defrag") {
        Seen::Text(text) if chosen(&text) == "always" => findings.costs(
            id,
            "huge pages are made room for at once, for every program (defrag: always)",
            Better {
                wanted: "madvise, defer or defer+madvise",
                costs: "any page fault may stop for milliseconds while the kernel moves pages",
                fix: "echo madvise > /sys/kernel/mm/transparent_hugepage/defrag",
            },
        ),
        Seen::Text(text) => findings.good(id, format!("defrag: {}", chosen(&text))),
        Seen::Absent => {}
        Seen::Unreadable(why) => findings.unknown(id, why),
    }
}

fn check_swap(look: &Look, findings: &mut Findings) {
    let id = "memory.swap";
    let table = match look.proc("swaps") {
        Seen::Text(table) => table,
        Seen::Absent => return findings.good(id, "this kernel has no swap"),
        Seen::Unreadable(why) => return findings.unknown(id, why),
    };
    let places: Vec<&str> =
        table.lines().skip(1).filter_map(|line| line.split_ascii_whitespace().next()).collect();
    if places.is_empty() {
        return findings.good(id, "no swap");
    }
    let swappiness = look.proc_number("sys/vm/swappiness").unwrap_or(60);
    let is = format!("swap on {}, vm.swappiness {swappiness}", places.join(", "));
    if swappiness <= SWAPPINESS_MAX {
        return findings.good(id, is);
    }
    findings.costs(
        id,
        is,
        Better {
            wanted: "no swap, or vm.swappiness of 10 or less",
            costs: "pages of a cache that is quiet for a while go to the disk; reading them back \
                    holds the whole core up",
            fix: "sysctl -w vm.swappiness=1",
        },
    );
}
