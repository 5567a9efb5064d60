use super::*;

fn percentiles(p50: f64) -> Percentiles {
    Percentiles { p50, p90: p50, p99: p50 * 2.0, p99_9: p50, p99_99: p50, max: p50 }
}

fn measured() -> Measured {
    let point = |size_bytes: u64, depth: usize, per_s: f64| WritePoint {
        size_bytes,
        depth,
        per_s,
        bytes_per_s: per_s * size_bytes as f64,
        p50_us: 50.0,
        p99_us: 100.0,
    };
    Measured {
        writes: vec![
            point(4096, 1, 20_000.0),
            point(4096, 8, 60_000.0),
            point(1 << 20, 4, 2_000.0),
            point(1 << 20, 8, 2_500.0),
        ],
        fresh_writes: vec![point(4096, 1, 10_000.0)],
        read_sequential_bytes_per_s: 2e9,
        read_random_4k_us: percentiles(80.0),
        loopback_round_trip_64b_us: percentiles(20.0),
        loopback_stream_bytes_per_s: 4e9,
        eventfd_round_trip_us: percentiles(10.0),
    }
}

fn ceilings() -> Ceilings {
    Ceilings {
        format: FORMAT,
        made_unix_s: 1_800_000_000,
        machine: Machine { cpu_model: "Fast".to_owned(), ..Machine::default() },
        folder: "/data".into(),
        cores: 2,
        writes_in_flight: 4,
        group_bytes: 1 << 20,
        measured: measured(),
        predicted: predict(&measured(), 2, 4, 1 << 20),
    }
}

#[test]
fn the_lowest_of_cpu_disk_and_network_bounds_a_rate() {
    let one = predict(&measured(), 1, 4, 1 << 20);
    assert_eq!(one.publish_1k_lockstep_p50_us, 20.0 + 50.0 + 12.0);
    assert_eq!(one.durable_writes_per_s, 20_000.0, "depth 8 is more than one core has under way");
    assert_eq!(predict(&measured(), 2, 4, 1 << 20).durable_writes_per_s, 60_000.0);
    assert_eq!(one.durable_bytes_per_s, 2_000.0 * f64::from(1 << 20));
    // 100 B: the CPU. 1 KiB in batches: the disk, once there are CPUs enough.
    assert!((one.publish_100b_per_s - 1e6 / 0.65).abs() < 1.0);
    let many = predict(&measured(), 16, 4, 1 << 20);
    let by_disk = one.durable_bytes_per_s * 1024.0 / (1024.0 + 12.0);
    assert!((many.publish_1k_x100_bytes_per_s - by_disk).abs() < 1.0);
    assert_eq!(one.consume_cold_bytes_per_s, 0.71 * 2e9);
    let slow = Measured { eventfd_round_trip_us: percentiles(20.0), ..measured() };
    assert_eq!(predict(&slow, 1, 4, 1 << 20).cpu_scale, 2.0);
    assert_eq!(predict(&Measured::default(), 1, 4, 1 << 20).publish_1k_per_s, 0.0);
}

#[test]
fn a_file_is_read_back_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let path = Ceilings::path_beside(&folder.path().join("corelane.toml"));
    assert!(path.ends_with("corelane.ceilings.json"));
    fs::write(&path, ceilings().to_json()).unwrap();
    let read = Ceilings::read(&path).unwrap();
    assert_eq!((&read.measured, &read.machine), (&ceilings().measured, &ceilings().machine));
    // The last digit of a fraction may differ.
    let (found, wrote) = (read.predicted, ceilings().predicted);
    let off = found.publish_1k_lockstep_per_s / wrote.publish_1k_lockstep_per_s - 1.0;
    assert!(off.abs() < 1e-12, "{off}");
    assert_eq!(found.publish_1k_lockstep_p50_us, wrote.publish_1k_lockstep_p50_us);
}

#[test]
fn what_is_no_file_of_ceilings_is_refused() {
    let path = Path::new("/x/y.json");
    let refused = |text: &str| Ceilings::parse(text, path).unwrap_err().to_string();
    assert!(refused("garbage").contains("/x/y.json"));
    assert!(refused("{}").contains("format"));
    assert!(refused("{\"format\": 2}").contains("reads 1"));
    let cut = ceilings().to_json().replace("\"cores\": 2,", "");
    assert!(refused(&cut).contains("cores"));
    assert!(Ceilings::read(Path::new("/no/such/file")).is_err());
}
