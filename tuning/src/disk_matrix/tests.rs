//! Short runs on the disk of the build.

use super::*;

const SMALL: MatrixBounds = MatrixBounds { bytes: BYTES_MIN, time: Duration::ZERO };

fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap()
}

fn never() -> AtomicBool {
    AtomicBool::new(false)
}

#[test]
fn every_cell_has_a_figure_even_without_time() {
    let folder = folder();
    let mut steps = Vec::new();
    let figures =
        disk_matrix(folder.path(), &SMALL, &never(), &mut |step| steps.push(step.clone())).unwrap();
    assert_eq!(figures.cells.len(), cells::plan().len());
    for cell in &figures.cells {
        assert!(cell.count > 0 && cell.per_s > 0.0 && cell.latency_us.p50 > 0.0, "{cell:?}");
    }
    assert!(figures.cell(Work::WriteFresh, MIB, 4).is_some());
    assert!(figures.best(Work::ReadSequential).is_some());
    let done: Vec<usize> = steps.iter().map(|step| step.done).collect();
    assert_eq!(done, (0..=cells::plan().len() + 1).collect::<Vec<_>>());
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn asked_to_stop_it_ends_with_what_it_has() {
    let folder = folder();
    let stop = never();
    let figures = disk_matrix(folder.path(), &SMALL, &stop, &mut |step| {
        if step.done == 3 {
            stop.store(true, Ordering::Relaxed);
        }
    })
    .unwrap();
    assert!(figures.interrupted);
    assert_eq!(figures.cells.len(), 3, "the one under way is still counted");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn fresh_space_is_used_once() {
    let folder = folder();
    let file = ScratchFile::create(folder.path()).unwrap();
    let bytes = reserve(&file, 4 * MIB).unwrap();
    let area = Area { file: &file, start: MIB, bytes: bytes - MIB, once: true };
    let spec = cells::Spec { work: Work::WriteFresh, size_bytes: MIB, depth: 2 };
    let long = Duration::from_secs(60);
    let cell = work::measure(&area, &spec, long, &never()).unwrap().unwrap();
    assert_eq!(cell.count, 3);
    let none = Area { bytes: 0, ..area };
    assert!(work::measure(&none, &spec, long, &never()).unwrap().is_none());
}

#[test]
fn too_little_space_a_bad_size_and_no_folder_are_refused() {
    let folder = folder();
    let refuse = |folder: &Path, bytes| {
        let bounds = MatrixBounds { bytes, ..SMALL };
        disk_matrix(folder, &bounds, &never(), &mut |_| {}).unwrap_err().to_string()
    };
    assert!(refuse(folder.path(), MIB).contains("--size"));
    assert!(refuse(folder.path(), u64::MAX).contains("--size"));
    assert!(refuse(Path::new("/no/such/folder"), BYTES_MIN).contains("--folder"));
    let free = Filesystem::of(folder.path()).unwrap().free_bytes;
    if free < BYTES_MAX {
        let sentence = refuse(folder.path(), BYTES_MAX);
        assert!(sentence.contains("make room"), "{sentence}");
    }
}
