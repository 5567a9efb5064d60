//! Instructions counted by valgrind's callgrind, in a run of this program.

use std::process::Command;

#[derive(Debug, thiserror::Error)]
pub enum CountError {
    #[error("valgrind could not be started ({0}); install it: apt-get install valgrind")]
    Start(std::io::Error),
    #[error("this program's own path is not known: {0}")]
    Own(std::io::Error),
    #[error("a run of {way} under valgrind failed; it said: {said}")]
    Run { way: String, said: String },
    #[error("valgrind's answer has no total; it said: {said}")]
    NoTotal { said: String },
}

/// Instructions of a whole run of `way`, start and end included.
pub fn instructions(way: &str, turns: u32) -> Result<u64, CountError> {
    let own = std::env::current_exe().map_err(CountError::Own)?;
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null", "--"])
        .arg(own)
        .args(["run", way, &turns.to_string()])
        .output()
        .map_err(CountError::Start)?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    if !output.status.success() {
        return Err(CountError::Run { way: way.to_owned(), said });
    }
    total(&said).ok_or(CountError::NoTotal { said })
}

/// From the line `==12== Collected : 1234567`.
fn total(said: &str) -> Option<u64> {
    let line = said.lines().rev().find_map(|line| line.split_once("Collected :"))?.1;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_total_is_found_in_what_valgrind_says() {
        let said =
            "==7== Events    : Ir\n==7== Collected : 1234567\n==7== \n==7== I   refs:  1,234,567\n";
        assert_eq!(total(said), Some(1_234_567));
        assert_eq!(total("==7== killed"), None);
    }
}
