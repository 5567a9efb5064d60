//! The kinds of values that options have: how each is read, shown and bounded.

use std::marker::PhantomData;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use tuning::CoreRequest;

use super::units;

/// Which TOML values a kind is written as. Variables and flags are always text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TomlForm {
    Boolean,
    Integer,
    String,
    IntegerOrString,
    /// An integer, a string, or an array of integers.
    Cores,
}

impl TomlForm {
    /// What to write, for an error's sentence.
    pub fn wanted(self) -> &'static str {
        match self {
            Self::Boolean => "true or false, without quotes",
            Self::Integer => "a whole number, without quotes",
            Self::String => "text in quotes",
            Self::IntegerOrString => "a whole number, or text in quotes",
            Self::Cores => {
                "\"auto\", \"per-numa-node\", a number, or a list of CPUs such as [0, 2]"
            }
        }
    }
}

/// A kind of value. Every value has one text form; `parse` reads back what `show` wrote.
pub trait Kind {
    type Value: Clone + PartialEq + std::fmt::Debug;
    /// For the sample's comments.
    const NAME: &'static str;
    const FORM: TomlForm;

    /// `Err` is the problem as a clause, without the key.
    fn parse(text: &str) -> Result<Self::Value, String>;

    fn show(value: &Self::Value) -> String;

    /// The number that bounds apply to: a count, bytes, or nanoseconds.
    fn number(_value: &Self::Value) -> Option<u64> {
        None
    }

    /// The text form of such a number.
    fn show_number(number: u64) -> String {
        number.to_string()
    }
}

/// `true` or `false`.
pub struct Flag;
/// A whole number.
pub struct Count<T>(PhantomData<T>);
/// A size in bytes.
pub struct Bytes;
/// A duration.
pub struct Time;
/// Text that is not empty.
pub struct Text;
/// A path.
pub struct Path;
/// An address and port.
pub struct Address;
/// The cores to run.
pub struct Cores;
/// How log lines are written.
pub struct Format;
/// How the log's files are opened.
pub struct Io;
/// Who decides which core takes a connection.
pub struct Steering;
/// A value that may be missing; its text form is then empty.
pub struct Optional<K>(PhantomData<K>);

impl Kind for Flag {
    type Value = bool;
    const NAME: &'static str = "true or false";
    const FORM: TomlForm = TomlForm::Boolean;

    fn parse(text: &str) -> Result<bool, String> {
        text.parse().map_err(|_| format!("{text:?} is neither true nor false"))
    }

    fn show(value: &bool) -> String {
        value.to_string()
    }
}

impl<T> Kind for Count<T>
where
    T: Copy + PartialEq + std::fmt::Debug + TryFrom<u64> + Into<u64>,
{
    type Value = T;
    const NAME: &'static str = "whole number";
    const FORM: TomlForm = TomlForm::Integer;

    fn parse(text: &str) -> Result<T, String> {
        let number = text.trim().replace('_', "").parse::<u64>();
        let value = number.ok().and_then(|number| T::try_from(number).ok());
        value.ok_or_else(|| format!("{text:?} is no whole number of the size allowed"))
    }

    fn show(value: &T) -> String {
        (*value).into().to_string()
    }

    fn number(value: &T) -> Option<u64> {
        Some((*value).into())
    }
}

impl Kind for Bytes {
    type Value = u64;
    const NAME: &'static str = "size";
    const FORM: TomlForm = TomlForm::IntegerOrString;

    fn parse(text: &str) -> Result<u64, String> {
        units::parse_bytes(text)
    }

    fn show(value: &u64) -> String {
        units::show_bytes(*value)
    }

    fn number(value: &u64) -> Option<u64> {
        Some(*value)
    }

    fn show_number(number: u64) -> String {
        units::show_bytes(number)
    }
}

impl Kind for Time {
    type Value = Duration;
    const NAME: &'static str = "duration";
    const FORM: TomlForm = TomlForm::String;

    fn parse(text: &str) -> Result<Duration, String> {
        units::parse_duration(text)
    }

    fn show(value: &Duration) -> String {
        units::show_duration(*value)
    }

    fn number(value: &Duration) -> Option<u64> {
        Some(units::duration_ns(*value))
    }

    fn show_number(number: u64) -> String {
        units::show_duration(Duration::from_nanos(number))
    }
}

impl Kind for Text {
    type Value = String;
    const NAME: &'static str = "text";
    const FORM: TomlForm = TomlForm::String;

    fn parse(text: &str) -> Result<String, String> {
        if text.is_empty() {
            return Err("it is empty".to_owned());
        }
        match text.chars().find(|c| c.is_control()) {
            Some(found) => Err(format!("{text:?} holds the control character {found:?}")),
            None => Ok(text.to_owned()),
        }
    }

    fn show(value: &String) -> String {
        value.clone()
    }
}

impl Kind for Path {
    type Value = PathBuf;
    const NAME: &'static str = "path";
    const FORM: TomlForm = TomlForm::String;

    fn parse(text: &str) -> Result<PathBuf, String> {
        Text::parse(text).map(PathBuf::from)
    }

    fn show(value: &PathBuf) -> String {
        value.display().to_string()
    }
}

impl Kind for Address {
    type Value = SocketAddr;
    const NAME: &'static str = "address";
    const FORM: TomlForm = TomlForm::String;

    fn parse(text: &str) -> Result<SocketAddr, String> {
        let numeric = match text.strip_prefix("localhost:") {
            Some(port) => format!("127.0.0.1:{port}"),
            None => text.to_owned(),
        };
        let refused =
            |_| format!("{text:?} is no address with a port, such as 127.0.0.1:7300 or [::]:7300");
        numeric.parse().map_err(refused)
    }

    fn show(value: &SocketAddr) -> String {
        value.to_string()
    }
}

impl Kind for Cores {
    type Value = CoreRequest;
    const NAME: &'static str = "auto, per-numa-node, a count, or a list of CPUs";
    const FORM: TomlForm = TomlForm::Cores;

    fn parse(text: &str) -> Result<CoreRequest, String> {
        let request =
            text.parse().map_err(|error: tuning::placement::CoreRequestError| error.to_string())?;
        if request == CoreRequest::Count(0) {
            return Err("0 cores cannot serve; write auto or at least 1".to_owned());
        }
        Ok(request)
    }

    fn show(value: &CoreRequest) -> String {
        value.to_string()
    }
}

/// How log lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    Text,
    Json,
}

impl Kind for Format {
    type Value = LogFormat;
    const NAME: &'static str = "text or json";
    const FORM: TomlForm = TomlForm::String;

    fn parse(text: &str) -> Result<LogFormat, String> {
        match text {
            "text" => Ok(LogFormat::Text),
            "json" => Ok(LogFormat::Json),
            _ => Err(format!("{text:?} is neither text nor json")),
        }
    }

    fn show(value: &LogFormat) -> String {
        match value {
            LogFormat::Text => "text".to_owned(),
            LogFormat::Json => "json".to_owned(),
        }
    }
}

/// How the log's files are opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IoMode {
    Auto,
    Direct,
}

impl Kind for Io {
    type Value = IoMode;
    const NAME: &'static str = "auto or direct";
    const FORM: TomlForm = TomlForm::String;

    fn parse(text: &str) -> Result<IoMode, String> {
        match text {
            "auto" => Ok(IoMode::Auto),
            "direct" => Ok(IoMode::Direct),
            _ => Err(format!("{text:?} is neither auto nor direct")),
        }
    }

    fn show(value: &IoMode) -> String {
        match value {
            IoMode::Auto => "auto".to_owned(),
            IoMode::Direct => "direct".to_owned(),
        }
    }
}

/// Who decides which core takes a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SteeringMode {
    Off,
    IncomingCpu,
}

impl Kind for Steering {
    type Value = SteeringMode;
    const NAME: &'static str = "off or incoming-cpu";
    const FORM: TomlForm = TomlForm::String;

    fn parse(text: &str) -> Result<SteeringMode, String> {
        match text {
            "off" => Ok(SteeringMode::Off),
            "incoming-cpu" => Ok(SteeringMode::IncomingCpu),
            _ => Err(format!("{text:?} is neither off nor incoming-cpu")),
        }
    }

    fn show(value: &SteeringMode) -> String {
        match value {
            SteeringMode::Off => "off".to_owned(),
            SteeringMode::IncomingCpu => "incoming-cpu".to_owned(),
        }
    }
}

impl<K: Kind> Kind for Optional<K> {
    type Value = Option<K::Value>;
    const NAME: &'static str = K::NAME;
    const FORM: TomlForm = match K::FORM {
        TomlForm::Integer => TomlForm::IntegerOrString,
        form => form,
    };

    fn parse(text: &str) -> Result<Self::Value, String> {
        if text.is_empty() { Ok(None) } else { K::parse(text).map(Some) }
    }

    fn show(value: &Self::Value) -> String {
        value.as_ref().map(K::show).unwrap_or_default()
    }

    fn number(value: &Self::Value) -> Option<u64> {
        value.as_ref().and_then(K::number)
    }

    fn show_number(number: u64) -> String {
        K::show_number(number)
    }
}

/// Which numbers are allowed: counts, bytes or nanoseconds, both ends included.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    min: u64,
    max: u64,
    step: Step,
}

#[derive(Clone, Copy, Debug)]
enum Step {
    One,
    MultipleOf(u64),
    PowerOfTwo,
}

impl Bounds {
    pub const ANY: Self = Self { min: 0, max: u64::MAX, step: Step::One };

    pub const fn within(min: u64, max: u64) -> Self {
        Self { min, max, step: Step::One }
    }

    pub const fn multiple_of(self, unit: u64) -> Self {
        Self { step: Step::MultipleOf(unit), ..self }
    }

    pub const fn power_of_two(self) -> Self {
        Self { step: Step::PowerOfTwo, ..self }
    }

    fn hold(&self, number: u64) -> bool {
        let on_step = match self.step {
            Step::One => true,
            Step::MultipleOf(unit) => number.is_multiple_of(unit),
            Step::PowerOfTwo => number.is_power_of_two(),
        };
        (self.min..=self.max).contains(&number) && on_step
    }

    /// `16MiB to 2GiB in steps of 1MiB`; empty where anything goes.
    pub fn describe(&self, show: fn(u64) -> String) -> String {
        let range = match (self.min, self.max) {
            (0, u64::MAX) => return String::new(),
            (min, u64::MAX) => format!("{} or more", show(min)),
            (min, max) => format!("{} to {}", show(min), show(max)),
        };
        match self.step {
            Step::One => range,
            Step::MultipleOf(unit) => format!("{range} in steps of {}", show(unit)),
            Step::PowerOfTwo => format!("{range}, a power of two"),
        }
    }
}

/// Reads `text` and holds it against the bounds; gives the value's own text form.
pub fn check<K: Kind>(text: &str, bounds: &Bounds) -> Result<String, String> {
    let value = K::parse(text)?;
    match K::number(&value) {
        Some(number) if !bounds.hold(number) => Err("out of bounds".to_owned()),
        _ => Ok(K::show(&value)),
    }
}
