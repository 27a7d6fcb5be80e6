//! Colours, where a terminal shows them and nobody asked for none.

use std::fmt::Display;
use std::io::IsTerminal;

#[derive(Debug, Clone, Copy)]
pub struct Paint {
    colours: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Colour {
    Red,
    Green,
    Yellow,
    Cyan,
    Bold,
    Dim,
}

impl Paint {
    /// For what goes to `stream`. `NO_COLOR` with anything in it says no (no-color.org).
    pub fn for_stream(stream: &impl IsTerminal) -> Self {
        let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self { colours: stream.is_terminal() && !refused }
    }

    #[cfg(test)]
    pub fn plain() -> Self {
        Self { colours: false }
    }

    pub fn with(self, colour: Colour, text: impl Display) -> String {
        let code = match colour {
            Colour::Red => 31,
            Colour::Green => 32,
            Colour::Yellow => 33,
            Colour::Cyan => 36,
            Colour::Bold => 1,
            Colour::Dim => 2,
        };
        if self.colours { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_string() }
    }
}
