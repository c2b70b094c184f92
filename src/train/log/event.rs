//! TensorBoard's event files: protobuf messages in TFRecord frames, encoded by hand.
//!
//! Sources: tensorflow/core/util/event.proto, tensorflow/core/framework/summary.proto, and the
//! description of the frames in tensorflow/core/lib/io/record_writer.h.

/// What is written into an event file.
#[derive(Debug)]
pub(super) enum Event<'a> {
    /// The first event of every file.
    FileVersion,
    /// A run begins or goes on at this event's step: points from there on, written before, are void.
    SessionStart,
    /// Values by tag.
    Scalars(&'a [(&'a str, f64)]),
    /// A picture.
    Image { tag: &'a str, png: &'a [u8], width: u32, height: u32 },
}

impl Event<'_> {
    /// The message `Event`; `wall_time` in seconds since 1970.
    pub(super) fn encode(&self, wall_time: f64, step: u64) -> Vec<u8> {
        let mut event = Message::default();
        event.double(1, wall_time);
        event.varint(2, step);
        match self {
            Self::FileVersion => event.bytes(3, b"brain.Event:2"),
            Self::SessionStart => {
                let mut session = Message::default();
                session.varint(1, 1); // SessionLog.status = START
                event.bytes(7, &session.0);
            }
            Self::Scalars(values) => {
                let mut summary = Message::default();
                for &(tag, value) in *values {
                    let mut entry = Message::default();
                    entry.bytes(1, tag.as_bytes());
                    entry.float(2, value as f32); // simple_value
                    summary.bytes(1, &entry.0);
                }
                event.bytes(5, &summary.0);
            }
            Self::Image { tag, png, width, height } => {
                let mut image = Message::default();
                image.varint(1, u64::from(*height));
                image.varint(2, u64::from(*width));
                image.varint(3, 3); // colorspace RGB
                image.bytes(4, png);
                let mut entry = Message::default();
                entry.bytes(1, tag.as_bytes());
                entry.bytes(4, &image.0);
                let mut summary = Message::default();
                summary.bytes(1, &entry.0);
                event.bytes(5, &summary.0);
            }
        }
        event.0
    }
}

/// A TFRecord frame: length, its checksum, the data, its checksum; all little-endian.
pub(super) fn record(data: &[u8]) -> Vec<u8> {
    let length = (data.len() as u64).to_le_bytes();
    let mut frame = Vec::with_capacity(data.len() + 16);
    frame.extend_from_slice(&length);
    frame.extend_from_slice(&masked_crc(&length).to_le_bytes());
    frame.extend_from_slice(data);
    frame.extend_from_slice(&masked_crc(data).to_le_bytes());
    frame
}

/// CRC-32C, rotated and offset so that data holding its own checksum does not weaken it.
fn masked_crc(data: &[u8]) -> u32 {
    crc32c::crc32c(data).rotate_right(15).wrapping_add(0xa282_ead8)
}

/// A protobuf message under construction. Field numbers here are below 16, so that a key is one byte.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn key(&mut self, field: u8, wire_type: u8) {
        self.0.push(field << 3 | wire_type);
    }

    fn raw_varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    fn varint(&mut self, field: u8, value: u64) {
        self.key(field, 0);
        self.raw_varint(value);
    }

    fn double(&mut self, field: u8, value: f64) {
        self.key(field, 1);
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    fn bytes(&mut self, field: u8, value: &[u8]) {
        self.key(field, 2);
        self.raw_varint(value.len() as u64);
        self.0.extend_from_slice(value);
    }

    fn float(&mut self, field: u8, value: f32) {
        self.key(field, 5);
        self.0.extend_from_slice(&value.to_le_bytes());
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// An event of a file, in words.
    pub(in super::super) struct Parsed(String);

    impl std::fmt::Debug for Parsed {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str(&self.0)
        }
    }

    /// A field's value; numbers as their bits.
    enum Value<'a> {
        Number(u64),
        Bytes(&'a [u8]),
    }

    impl<'a> Value<'a> {
        fn number(&self) -> u64 {
            let Self::Number(n) = self else { panic!("not a number") };
            *n
        }

        fn fields(&self) -> Vec<(u8, Value<'a>)> {
            fields(self.slice())
        }

        fn slice(&self) -> &'a [u8] {
            let Self::Bytes(bytes) = self else { panic!("not bytes") };
            bytes
        }

        fn text(&self) -> &'a str {
            std::str::from_utf8(self.slice()).unwrap()
        }
    }

    fn take<'a>(data: &mut &'a [u8], len: usize) -> &'a [u8] {
        let (head, tail) = data.split_at(len);
        *data = tail;
        head
    }

    fn varint(data: &mut &[u8]) -> u64 {
        let mut value = 0;
        for shift in (0..).step_by(7) {
            let byte = take(data, 1)[0];
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                break;
            }
        }
        value
    }

    fn fields(mut data: &[u8]) -> Vec<(u8, Value<'_>)> {
        let mut fields = Vec::new();
        while !data.is_empty() {
            let key = take(&mut data, 1)[0];
            let value = match key & 7 {
                0 => Value::Number(varint(&mut data)),
                1 => Value::Number(u64::from_le_bytes(take(&mut data, 8).try_into().unwrap())),
                2 => {
                    let len = varint(&mut data) as usize;
                    Value::Bytes(take(&mut data, len))
                }
                5 => {
                    let bits = u32::from_le_bytes(take(&mut data, 4).try_into().unwrap());
                    Value::Number(u64::from(bits))
                }
                other => panic!("wire type {other}"),
            };
            fields.push((key >> 3, value));
        }
        fields
    }

    fn summary_value(value: &Value<'_>) -> String {
        let mut text = String::new();
        for (field, value) in value.fields() {
            match field {
                1 => text = format!(" {}=", value.text()),
                2 => text += &f32::from_bits(value.number() as u32).to_string(),
                4 => {
                    let image = value.fields();
                    let (height, width) = (image[0].1.number(), image[1].1.number());
                    text += &format!("{width}x{height} {} bytes", image[3].1.slice().len());
                }
                other => panic!("field {other} of Summary.Value"),
            }
        }
        text
    }

    /// Checks the frames and takes the events apart.
    pub(in super::super) fn parse(mut data: &[u8]) -> Vec<Parsed> {
        let mut events = Vec::new();
        while !data.is_empty() {
            let length = take(&mut data, 8);
            assert_eq!(take(&mut data, 4), masked_crc(length).to_le_bytes());
            let event = take(&mut data, u64::from_le_bytes(length.try_into().unwrap()) as usize);
            assert_eq!(take(&mut data, 4), masked_crc(event).to_le_bytes());
            let mut text = String::new();
            for (field, value) in fields(event) {
                match field {
                    1 => assert!(f64::from_bits(value.number()) > 1.6e9),
                    2 => text += &format!("step {}", value.number()),
                    3 => text += &format!(" version {}", value.text()),
                    5 => value.fields().iter().for_each(|(_, v)| text += &summary_value(v)),
                    7 => text += " session start",
                    other => panic!("field {other} of Event"),
                }
            }
            events.push(Parsed(text));
        }
        events
    }

    #[test]
    fn frames_are_those_of_tensorflow() {
        // The check value of CRC-32C (RFC 3720: 32 bytes of zeros), masked as in TensorFlow's crc32c.h.
        assert_eq!(crc32c::crc32c(&[0; 32]), 0x8a91_36aa);
        let expected = 0x8a91_36aa_u32.rotate_right(15).wrapping_add(0xa282_ead8);
        assert_eq!(masked_crc(&[0; 32]), expected);
        assert_eq!(record(b"abc").len(), 8 + 4 + 3 + 4);
    }
}
