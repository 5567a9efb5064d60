//! The body of the reply to `Stages`.

use model::stages::{STAGE_BUCKETS, STAGES};
use model::{CoreId, CoreStages, StageHistogram};
use rkyv::{Archive, Serialize};

use crate::body::{BodyError, Cursor, check_reserved, put_fixed, put_list};
use crate::frame::TooLarge;

/// Then the histograms of the stages in their order.
#[derive(Archive, Serialize)]
struct WireCoreStages {
    core: u16,
    reserved: u16,
}

/// Then the list of buckets.
#[derive(Archive, Serialize)]
struct WireHistogram {
    sum_ns: u64,
    max_ns: u64,
}

#[derive(Archive, Serialize)]
struct WireBucket {
    bucket: u16,
    reserved: u16,
    count: u64,
}

pub(crate) fn put_stages(out: &mut Vec<u8>, cores: &[CoreStages]) -> Result<(), TooLarge> {
    put_list(out, cores, |out, core| {
        put_fixed(out, &WireCoreStages { core: core.core.0, reserved: 0 });
        core.stages.iter().try_for_each(|histogram| put_histogram(out, histogram))
    })
}

fn put_histogram(out: &mut Vec<u8>, histogram: &StageHistogram) -> Result<(), TooLarge> {
    put_fixed(out, &WireHistogram { sum_ns: histogram.sum_ns, max_ns: histogram.max_ns });
    put_list(out, &histogram.buckets, |out, (bucket, count)| {
        put_fixed(out, &WireBucket { bucket: *bucket, reserved: 0, count: *count });
        Ok(())
    })
}

pub(crate) fn read_stages(cursor: &mut Cursor) -> Result<Vec<CoreStages>, BodyError> {
    let histogram_bytes_min = size_of::<ArchivedWireHistogram>() + 4;
    let core_bytes_min = size_of::<ArchivedWireCoreStages>() + STAGES * histogram_bytes_min;
    cursor.list("the cores", core_bytes_min, |cursor| {
        let fixed = cursor.fixed::<ArchivedWireCoreStages>("the core")?;
        check_reserved(fixed.reserved.to_native().into(), "the core")?;
        let mut core = CoreStages { core: CoreId(fixed.core.to_native()), ..Default::default() };
        for histogram in &mut core.stages {
            *histogram = read_histogram(cursor)?;
        }
        Ok(core)
    })
}

/// A histogram whose buckets exist, come in their order, and can be added up.
fn read_histogram(cursor: &mut Cursor) -> Result<StageHistogram, BodyError> {
    let fixed = cursor.fixed::<ArchivedWireHistogram>("the stage")?;
    let (mut count, mut next) = (0u64, 0u16);
    let buckets = cursor.list("the buckets", size_of::<ArchivedWireBucket>(), |cursor| {
        let fixed = cursor.fixed::<ArchivedWireBucket>("the bucket")?;
        check_reserved(fixed.reserved.to_native().into(), "the bucket")?;
        let (bucket, times) = (fixed.bucket.to_native(), fixed.count.to_native());
        let wrong = |field, value| Err(BodyError::Value { field, value });
        if bucket < next || usize::from(bucket) >= STAGE_BUCKETS {
            return wrong("the bucket's number", bucket.into());
        }
        match count.checked_add(times) {
            Some(sum) if times > 0 => count = sum,
            _ => return wrong("the bucket's count", times),
        }
        next = bucket + 1;
        Ok((bucket, times))
    })?;
    let (sum_ns, max_ns) = (fixed.sum_ns.to_native(), fixed.max_ns.to_native());
    Ok(StageHistogram { count, sum_ns, max_ns, buckets })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::hex;

    fn read(body: &str) -> Result<Vec<CoreStages>, BodyError> {
        let bytes = hex(body);
        let mut cursor = Cursor::new(&bytes);
        let cores = read_stages(&mut cursor)?;
        cursor.end()?;
        Ok(cores)
    }

    /// One core whose first stage has these buckets.
    fn with_buckets(buckets: &str) -> String {
        let empty = "0000000000000000 0000000000000000 00000000";
        let count = buckets.split_whitespace().count() / 3;
        format!(
            "01000000 0700 0000 0900000000000000 0500000000000000 {count:02x}000000 {buckets} \
             {empty} {empty} {empty}"
        )
    }

    #[test]
    fn golden() {
        let body = with_buckets("0400 0000 0100000000000000  ff03 0000 0200000000000000");
        let cores = read(&body).unwrap();
        let [core] = &cores[..] else { panic!("{cores:?}") };
        assert_eq!(core.core, CoreId(7));
        let buckets = vec![(4, 1), (1_023, 2)];
        assert_eq!(core.stages[0], StageHistogram { count: 3, sum_ns: 9, max_ns: 5, buckets });
        assert_eq!(core.stages[1..], <[StageHistogram; 3]>::default());
        let mut out = Vec::new();
        put_stages(&mut out, &cores).unwrap();
        assert_eq!(out, hex(&body));
        for cut in 0..out.len() {
            assert!(read_stages(&mut Cursor::new(&out[..cut])).is_err(), "cut at {cut}");
        }
    }

    #[test]
    fn buckets_that_cannot_be_are_refused() {
        let refused = |buckets| match read(&with_buckets(buckets)) {
            Err(BodyError::Value { field, value }) => (field, value),
            other => panic!("{other:?}"),
        };
        let number = "the bucket's number";
        assert_eq!(refused("0004 0000 0100000000000000"), (number, 1_024), "there is none");
        let twice = "0400 0000 0100000000000000 0400 0000 0100000000000000";
        assert_eq!(refused(twice), (number, 4), "not in their order");
        let count = "the bucket's count";
        assert_eq!(refused("0400 0000 0000000000000000"), (count, 0), "an empty one");
        let more = "0400 0000 ffffffffffffffff 0500 0000 0100000000000000";
        assert_eq!(refused(more), (count, 1), "more than can be counted");
    }

    /// A full histogram of each stage for each of 300 cores fits a frame.
    #[test]
    fn the_largest_answer_fits() {
        let buckets: Vec<_> = (0..STAGE_BUCKETS as u16).map(|bucket| (bucket, 1)).collect();
        let full = StageHistogram { count: 1_024, sum_ns: 1, max_ns: 1, buckets };
        let stages: [StageHistogram; STAGES] = std::array::from_fn(|_| full.clone());
        let cores = vec![CoreStages { core: CoreId(1), stages }; 300];
        let mut out = Vec::new();
        put_stages(&mut out, &cores).unwrap();
        assert_eq!(read_stages(&mut Cursor::new(&out)), Ok(cores));
    }
}
