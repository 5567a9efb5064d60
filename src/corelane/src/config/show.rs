//! The options as TOML: the commented sample, and the values in effect.

use super::kind::TomlForm;
use super::layers::Layers;
use super::options::{Change, GROUPS, OptionSpec};

const SAMPLE_HEAD: &str = "\
# Configuration of `corelane serve --config FILE`.
#
# Every option with its default; take away the # before one to change it. Flags override
# CORELANE_* variables, and these override this file. Unknown keys are refused.
# `corelane config check FILE` checks a file, `corelane config show` tells what is in effect.
# Sizes: 4096, 64KiB, 64MiB, 1GiB. Durations: 500us, 20ms, 5s, 1h, 7d. \"\" is \"not set\".
";

/// The whole sample file.
pub fn sample() -> String {
    let mut text = SAMPLE_HEAD.to_owned();
    for group in GROUPS {
        text.push('\n');
        push_comment(&mut text, group.doc);
        text.push_str(&format!("[{}]\n", group.name));
        for option in group.options {
            text.push('\n');
            push_comment(&mut text, option.doc);
            text.push_str(&format!("# {}.\n", facts(option)));
            text.push_str(&format!("#{} = {}\n", option.name, toml_value(option, option.default)));
        }
    }
    text
}

/// One option with a value and the reason for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    pub key: String,
    /// In the option's own text form.
    pub value: String,
    pub why: String,
}

/// Comments are broken before this many characters.
const COMMENT_WIDTH: usize = 98;

/// The settings below a head; keys that are no options are left out.
pub fn written(head: &str, settings: &[Setting]) -> String {
    let mut text = String::new();
    for line in head.lines() {
        push_wrapped(&mut text, line);
    }
    for group in GROUPS {
        let mut title = format!("\n[{}]\n", group.name);
        for option in group.options {
            let key = option.key();
            let Some(setting) = settings.iter().find(|setting| setting.key == key) else {
                continue;
            };
            text.push_str(&std::mem::take(&mut title));
            text.push('\n');
            push_wrapped(&mut text, &setting.why);
            text.push_str(&format!("{} = {}\n", option.name, toml_value(option, &setting.value)));
        }
    }
    text
}

/// As comment lines; what was indented stays so.
fn push_wrapped(text: &mut String, line: &str) {
    let indent = line.len() - line.trim_start().len();
    let mut column = 0;
    for word in line.split_whitespace() {
        let length = word.chars().count();
        if column == 0 || column + 1 + length > COMMENT_WIDTH {
            if column > 0 {
                text.push('\n');
            }
            text.push_str(&format!("# {:indent$}", ""));
            column = 2 + indent;
        } else {
            text.push(' ');
            column += 1;
        }
        text.push_str(word);
        column += length;
    }
    text.push_str(if column == 0 { "#\n" } else { "\n" });
}

/// The values in effect, each with its source.
pub fn effective(layers: &Layers) -> String {
    let mut text = String::new();
    for group in GROUPS {
        let gap = if text.is_empty() { "" } else { "\n" };
        text.push_str(&format!("{gap}[{}]\n", group.name));
        for option in group.options {
            let key = option.key();
            let value = toml_value(option, layers.effective_text(&key, option.default));
            text.push_str(&format!("{} = {value} # {}\n", option.name, layers.source(&key)));
        }
    }
    text
}

fn push_comment(text: &mut String, lines: &[&str]) {
    for line in lines {
        text.push_str(&format!("#{line}\n"));
    }
}

/// `size, 16MiB to 2GiB; needs a restart; CORELANE_STORAGE_SEGMENT_BYTES`
fn facts(option: &OptionSpec) -> String {
    let mut kind = option.kind.to_owned();
    if let Some(first) = kind.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    let allowed = option.allowed();
    let allowed = if allowed.is_empty() { allowed } else { format!(", {allowed}") };
    let change = match option.change {
        Change::Restart => "needs a restart",
        Change::Live => "can be changed while running",
    };
    format!("{kind}{allowed}; {change}; {}", option.variable())
}

fn toml_value(option: &OptionSpec, text: &str) -> String {
    let bare = match option.form {
        TomlForm::Boolean | TomlForm::Integer => true,
        TomlForm::IntegerOrString | TomlForm::Cores => text.parse::<u64>().is_ok(),
        TomlForm::String => false,
    };
    if bare { text.to_owned() } else { toml::Value::String(text.to_owned()).to_string() }
}
