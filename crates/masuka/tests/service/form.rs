//! Uploads as browsers send them: multipart/form-data.

use crate::http::Request;

const BOUNDARY: &str = "----masuka-test";

/// The parts of a form.
#[derive(Default)]
pub struct Form(Vec<u8>);

impl Form {
    pub fn file(self, part: &str, file_name: &str, content: &[u8]) -> Self {
        let disposition = format!("form-data; name=\"{part}\"; filename=\"{file_name}\"");
        self.part(&disposition, content)
    }

    pub fn text(self, part: &str, value: &str) -> Self {
        self.part(&format!("form-data; name=\"{part}\""), value.as_bytes())
    }

    fn part(mut self, disposition: &str, content: &[u8]) -> Self {
        let head = format!("--{BOUNDARY}\r\ncontent-disposition: {disposition}\r\n\r\n");
        self.0.extend(head.into_bytes());
        self.0.extend(content);
        self.0.extend(b"\r\n");
        self
    }

    pub fn post(mut self, path: &str) -> Request {
        self.0.extend(format!("--{BOUNDARY}--\r\n").into_bytes());
        let content_type = format!("multipart/form-data; boundary={BOUNDARY}");
        Request::new("POST", path).header("content-type", &content_type).body(self.0)
    }
}
