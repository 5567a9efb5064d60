//! The parts that pages are made of.

use std::fmt::Write;

use super::axis::Axis;
use super::chart::{self, Line};

/// A page being written.
#[derive(Debug, Default)]
pub struct Page {
    title: String,
    body: String,
}

impl Page {
    /// `title` and `subtitle` are plain text.
    pub fn new(title: &str, subtitle: &str) -> Self {
        let body =
            format!("<header><h1>{}</h1><p class=\"soft\">{}</p>", escape(title), escape(subtitle));
        Self { title: title.to_owned(), body }
    }

    /// Words set off from the rest, each `good`, `warn` or `bad`; they end the heading.
    pub fn badges(&mut self, badges: &[(&str, String)]) {
        self.body.push_str("<div class=\"badges\">");
        for (kind, text) in badges {
            let _ = write!(self.body, "<span class=\"badge {kind}\">{}</span>", escape(text));
        }
        self.body.push_str("</div></header>\n");
    }

    /// A section whose inside is HTML; nothing when that is empty.
    pub fn section(&mut self, title: &str, inside: &str) {
        self.section_of("", title, inside);
    }

    /// A section that something is wrong in.
    pub fn alert(&mut self, title: &str, lines: &[String]) {
        self.section_of("alert", title, &list(lines));
    }

    fn section_of(&mut self, class: &str, title: &str, inside: &str) {
        if !inside.is_empty() {
            let _ = writeln!(self.body, "{}", section(class, title, inside));
        }
    }

    /// Sections side by side where there is room; those that are empty are left out.
    pub fn pairs(&mut self, sections: &[(&str, String)]) {
        self.body.push_str("<div class=\"pairs\">");
        for (title, inside) in sections.iter().filter(|(_, inside)| !inside.is_empty()) {
            self.body.push_str(&section("", title, inside));
        }
        self.body.push_str("</div>\n");
    }

    /// A chart with its legend; nothing when there is nothing to draw.
    pub fn chart(&mut self, title: &str, x: &Axis, y: &Axis, lines: &[Line]) {
        if lines.iter().all(|line| line.points.is_empty()) {
            return;
        }
        let names = if lines.len() > 1 { legend(lines) } else { String::new() };
        let drawn = match chart::draw(x, y, lines) {
            Ok(svg) => format!("<figure>{svg}</figure>"),
            Err(error) => format!("<p class=\"bad\">{}</p>", escape(&error.to_string())),
        };
        self.section(title, &format!("{names}{drawn}"));
    }

    pub fn finish(self, footer: &str) -> String {
        format!(
            "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n<meta \
             name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <title>{}</title>\n<style>\n{}</style></head><body>\n{}<footer>{}</footer>\n\
             </body></html>\n",
            escape(&self.title),
            include_str!("style.css"),
            self.body,
            escape(footer)
        )
    }
}

fn section(class: &str, title: &str, inside: &str) -> String {
    format!("<section class=\"{class}\"><h2>{}</h2>{inside}</section>", escape(title))
}

/// Which colour is which line.
pub fn legend(lines: &[Line]) -> String {
    let mut html = String::from("<div class=\"legend\">");
    for line in lines {
        let color = line.color % chart::SERIES.len();
        let _ = write!(html, "<span><i class=\"c{color}\"></i>{}</span>", escape(&line.name));
    }
    html + "</div>"
}

/// Names and what they are; those that are nothing are left out.
pub fn facts(rows: &[(&str, String)]) -> String {
    let mut html = String::from("<table class=\"facts\">");
    for (name, value) in rows.iter().filter(|(_, value)| !value.is_empty()) {
        let _ = write!(html, "<tr><th>{}</th><td>{}</td></tr>", escape(name), escape(value));
    }
    html + "</table>"
}

/// A table with a heading; all columns but the first `words` are numbers. Cells are HTML.
pub fn table(heading: &[&str], words: usize, rows: &[Vec<String>]) -> String {
    let class = |at: usize| if at < words { "" } else { " class=\"number\"" };
    let mut html = String::from("<div class=\"wide\"><table><tr>");
    for (at, name) in heading.iter().enumerate() {
        let _ = write!(html, "<th{}>{}</th>", class(at), escape(name));
    }
    html.push_str("</tr>");
    for row in rows {
        html.push_str("<tr>");
        for (at, cell) in row.iter().enumerate() {
            let _ = write!(html, "<td{}>{cell}</td>", class(at));
        }
        html.push_str("</tr>");
    }
    html + "</table></div>"
}

/// Plain lines as a list; empty when there are none.
pub fn list(lines: &[String]) -> String {
    if lines.is_empty() {
        return String::new();
    }
    let items: String = lines.iter().map(|line| format!("<li>{}</li>", escape(line))).collect();
    format!("<ul>{items}</ul>")
}

/// Text that may stand in HTML.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_cannot_become_markup() {
        let evil = "<script>\"&'";
        let mut page = Page::new(evil, evil);
        page.badges(&[("good", evil.to_owned())]);
        page.section(evil, &facts(&[("x", evil.to_owned())]));
        page.alert("a", &[evil.to_owned()]);
        page.section("nothing", "");
        let html = page.finish(evil);
        assert!(!html.contains("<script") && html.contains("&lt;script&gt;&quot;&amp;&#39;"));
        assert!(!html.contains("nothing"));
    }
}
