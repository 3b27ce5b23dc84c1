//! One transcript line, read as far as somebody needs it.
//!
//! **Takes** the bytes of one line. **Gives** borrowed slices of the members that mean something. **Never** copies and
//! never looks into what it does not need: not into `toolUseResult`, not into a file-history snapshot.

use paramedic_model::Usage;

use crate::json::{Scanner, Text, number};

/// The members of a line, whatever its type. The `stream-json` format shares most of them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Line<'a> {
    pub(crate) kind: Option<Text<'a>>,
    pub(crate) subtype: Option<Text<'a>>,
    pub(crate) uuid: Option<Text<'a>>,
    pub(crate) timestamp: Option<Text<'a>>,
    pub(crate) session: Option<Text<'a>>,
    pub(crate) subagent: Option<Text<'a>>,
    pub(crate) parent_tool: Option<Text<'a>>,
    pub(crate) request: Option<Text<'a>>,
    pub(crate) prompt: Option<Text<'a>>,
    pub(crate) cwd: Option<Text<'a>>,
    pub(crate) branch: Option<Text<'a>>,
    pub(crate) version: Option<Text<'a>>,
    pub(crate) level: Option<Text<'a>>,
    pub(crate) operation: Option<Text<'a>>,
    pub(crate) is_sidechain: bool,
    pub(crate) is_meta: bool,
    pub(crate) is_compact_summary: bool,
    pub(crate) is_api_error: Option<bool>,
    pub(crate) api_error_status: Option<u64>,
    pub(crate) retry_attempt: Option<u64>,
    pub(crate) retries_max: Option<u64>,
    pub(crate) duration_ms: Option<u64>,
    /// Milliseconds, with a fraction.
    pub(crate) retry_in: Option<&'a [u8]>,
    pub(crate) error: Option<&'a [u8]>,
    pub(crate) content: Option<&'a [u8]>,
    pub(crate) summary: Option<&'a [u8]>,
    pub(crate) compact_metadata: Option<&'a [u8]>,
    pub(crate) hook_errors: Option<&'a [u8]>,
    pub(crate) message: Option<Message<'a>>,
    pub(crate) data: Option<Data<'a>>,
    /// The rest was left unread because nothing in it matters.
    pub(crate) is_cut: bool,
}

/// A model message or a user's, as the API writes it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Message<'a> {
    pub(crate) id: Option<Text<'a>>,
    pub(crate) model: Option<Text<'a>>,
    pub(crate) stop_reason: Option<Text<'a>>,
    pub(crate) usage: Option<Usage>,
    /// The content when it is a plain string.
    pub(crate) text: Option<Text<'a>>,
    pub(crate) blocks: Vec<Block<'a>>,
}

/// One content block.
#[derive(Debug, Clone, Default)]
pub(crate) struct Block<'a> {
    pub(crate) kind: Option<Text<'a>>,
    pub(crate) id: Option<Text<'a>>,
    pub(crate) name: Option<Text<'a>>,
    pub(crate) text: Option<Text<'a>>,
    pub(crate) input: Option<&'a [u8]>,
    pub(crate) content: Option<&'a [u8]>,
    pub(crate) is_error: bool,
}

impl Block<'_> {
    pub(crate) fn is(&self, kind: &str) -> bool {
        self.kind.is_some_and(|found| found.raw() == kind.as_bytes())
    }
}

/// The `data` of a progress line.
#[derive(Debug, Clone, Default)]
pub(crate) struct Data<'a> {
    pub(crate) kind: Option<Text<'a>>,
    pub(crate) subagent: Option<Text<'a>>,
    pub(crate) message: Option<&'a [u8]>,
}

impl<'a> Line<'a> {
    pub(crate) fn is(&self, kind: &str) -> bool {
        self.kind.is_some_and(|found| found.raw() == kind.as_bytes())
    }

    /// Reads a line. `None` when it is not one JSON object.
    pub(crate) fn read(bytes: &'a [u8]) -> Option<Self> {
        let mut line = Self::default();
        let mut scan = Scanner::new(bytes);
        scan.enter_object()?;
        let mut first = true;
        while let Some(key) = scan.next_key(&mut first)? {
            line.take(key, &mut scan)?;
            if line.is_cut {
                // What follows is not read, so at least its end must look like the end of an object.
                return (bytes.trim_ascii_end().last() == Some(&b'}')).then_some(line);
            }
        }
        scan.is_at_end().then_some(line)
    }

    /// Takes one member. Members of the same name are rare and the last one counts, as in every JSON reader.
    fn take(&mut self, key: &[u8], scan: &mut Scanner<'a>) -> Option<()> {
        match key {
            b"type" => {
                self.kind = scan.text_or_skip()?;
                self.is_cut = self.is("file-history-snapshot");
            }
            b"message" => self.message = Some(Message::read(scan)?),
            b"toolUseResult" | b"tool_use_result" if self.is_known() => self.is_cut = true,
            b"data" if scan.peek()? == b'{' => self.data = Some(Data::read(scan)?),
            b"uuid" => self.uuid = scan.text_or_skip()?,
            b"timestamp" => self.timestamp = scan.text_or_skip()?,
            b"sessionId" | b"session_id" => self.session = scan.text_or_skip()?,
            b"agentId" => self.subagent = scan.text_or_skip()?,
            b"requestId" | b"request_id" => self.request = scan.text_or_skip()?,
            b"promptId" => self.prompt = scan.text_or_skip()?,
            b"parentToolUseID" | b"parent_tool_use_id" => self.parent_tool = scan.text_or_skip()?,
            b"cwd" => self.cwd = scan.text_or_skip()?,
            b"gitBranch" => self.branch = scan.text_or_skip()?,
            b"version" => self.version = scan.text_or_skip()?,
            b"isSidechain" => self.is_sidechain = scan.flag()?,
            b"isMeta" => self.is_meta = scan.flag()?,
            b"isCompactSummary" => self.is_compact_summary = scan.flag()?,
            b"isApiErrorMessage" => self.is_api_error = Some(scan.flag()?),
            _ => self.take_rare(key, scan)?,
        }
        Some(())
    }

    fn take_rare(&mut self, key: &[u8], scan: &mut Scanner<'a>) -> Option<()> {
        match key {
            b"subtype" => self.subtype = scan.text_or_skip()?,
            b"level" => self.level = scan.text_or_skip()?,
            b"operation" => self.operation = scan.text_or_skip()?,
            b"apiErrorStatus" => self.api_error_status = number(scan.value()?),
            b"retryAttempt" => self.retry_attempt = number(scan.value()?),
            b"maxRetries" => self.retries_max = number(scan.value()?),
            b"durationMs" => self.duration_ms = number(scan.value()?),
            b"retryInMs" => self.retry_in = Some(scan.value()?),
            b"error" => self.error = Some(scan.value()?),
            b"content" => self.content = Some(scan.value()?),
            b"summary" => self.summary = Some(scan.value()?),
            b"compactMetadata" | b"compact_metadata" => self.compact_metadata = Some(scan.value()?),
            b"hookErrors" => self.hook_errors = Some(scan.value()?),
            _ => {
                scan.value()?;
            }
        }
        Some(())
    }

    /// Everything an event needs is known, so a tool's own copy of its result need not be read. The client writes it
    /// after the members that identify the line.
    fn is_known(&self) -> bool {
        self.kind.is_some() && self.message.is_some() && self.uuid.is_some() && self.timestamp.is_some() && self.session.is_some()
    }
}

impl<'a> Message<'a> {
    fn read(scan: &mut Scanner<'a>) -> Option<Self> {
        let mut message = Self::default();
        if scan.peek()? != b'{' {
            scan.value()?;
            return Some(message);
        }
        scan.enter_object()?;
        let mut first = true;
        while let Some(key) = scan.next_key(&mut first)? {
            match key {
                b"id" => message.id = scan.text_or_skip()?,
                b"model" => message.model = scan.text_or_skip()?,
                b"stop_reason" => message.stop_reason = scan.text_or_skip()?,
                b"usage" => message.usage = read_usage(scan)?,
                b"content" => message.read_content(scan)?,
                _ => {
                    scan.value()?;
                }
            }
        }
        Some(message)
    }

    fn read_content(&mut self, scan: &mut Scanner<'a>) -> Option<()> {
        self.text = None;
        self.blocks.clear();
        match scan.peek()? {
            b'"' => self.text = Some(scan.text()?),
            b'[' => {
                scan.enter_array()?;
                let mut first = true;
                while scan.next_item(&mut first)? {
                    if scan.peek()? == b'{' {
                        self.blocks.push(Block::read(scan)?);
                    } else {
                        scan.value()?;
                    }
                }
            }
            _ => {
                scan.value()?;
            }
        }
        Some(())
    }
}

impl<'a> Block<'a> {
    pub(crate) fn read(scan: &mut Scanner<'a>) -> Option<Self> {
        let mut block = Self::default();
        scan.enter_object()?;
        let mut first = true;
        while let Some(key) = scan.next_key(&mut first)? {
            match key {
                b"type" => block.kind = scan.text_or_skip()?,
                b"id" | b"tool_use_id" => block.id = scan.text_or_skip()?,
                b"name" => block.name = scan.text_or_skip()?,
                b"text" => block.text = scan.text_or_skip()?,
                b"input" => block.input = Some(scan.value()?),
                b"content" => block.content = Some(scan.value()?),
                b"is_error" => block.is_error = scan.flag()?,
                _ => {
                    scan.value()?;
                }
            }
        }
        Some(block)
    }
}

impl<'a> Data<'a> {
    fn read(scan: &mut Scanner<'a>) -> Option<Self> {
        let mut data = Self::default();
        scan.enter_object()?;
        let mut first = true;
        while let Some(key) = scan.next_key(&mut first)? {
            match key {
                b"type" => data.kind = scan.text_or_skip()?,
                b"agentId" => data.subagent = scan.text_or_skip()?,
                b"message" => data.message = Some(scan.value()?),
                _ => {
                    scan.value()?;
                }
            }
        }
        Some(data)
    }
}

/// The API's usage object.
pub(crate) fn read_usage(scan: &mut Scanner<'_>) -> Option<Option<Usage>> {
    if scan.peek()? != b'{' {
        scan.value()?;
        return Some(None);
    }
    let mut usage = Usage::default();
    scan.enter_object()?;
    let mut first = true;
    while let Some(key) = scan.next_key(&mut first)? {
        match key {
            b"input_tokens" => usage.input_tokens = read_tokens(scan)?,
            b"output_tokens" => usage.output_tokens = read_tokens(scan)?,
            b"cache_read_input_tokens" => usage.cache_read_tokens = read_tokens(scan)?,
            b"cache_creation_input_tokens" => usage.cache_creation_tokens = read_tokens(scan)?,
            b"cache_creation" => usage.cache_creation_1h_tokens = read_long_lived(scan)?,
            _ => {
                scan.value()?;
            }
        }
    }
    Some(Some(usage))
}

/// No call has a trillion tokens; a larger number is nonsense that must not overflow a sum.
const TOKENS_MAX: u64 = 1_000_000_000_000;

fn read_tokens(scan: &mut Scanner<'_>) -> Option<u64> {
    scan.count().map(|tokens| tokens.min(TOKENS_MAX))
}

/// The one-hour part of `cache_creation`.
fn read_long_lived(scan: &mut Scanner<'_>) -> Option<u64> {
    if scan.peek()? != b'{' {
        scan.value()?;
        return Some(0);
    }
    let mut tokens = 0;
    scan.enter_object()?;
    let mut first = true;
    while let Some(key) = scan.next_key(&mut first)? {
        match key {
            b"ephemeral_1h_input_tokens" => tokens = read_tokens(scan)?,
            _ => {
                scan.value()?;
            }
        }
    }
    Some(tokens)
}
