// Recorded work: captured once, replayed in one crossing.

#include "binding/exports.h"

namespace ml::binding {
namespace {

Recording& recording_of(const Napi::Value& value) {
  const CaptureBox& box = unwrap<CaptureBox>(value, "capture");
  return live(box.recording, "Capture.replay");
}

// (device): from here on its work is recorded, until captureFinish, or captureDispose.
Napi::Value capture_begin(Arguments& a) {
  return wrap(a.env(), CaptureBox{std::make_unique<Recording>(a.shared_device())});
}

// (capture, shape, dtype): numbers that each replay writes
Napi::Value capture_numbers(Arguments& a) {
  Recording& recording = recording_of(a.next());
  const Shape shape = a.shape("shape");
  return to_js(a.env(), recording.numbers(shape, a.choice<DType>("dtype")));
}

Napi::Value capture_finish(Arguments& a) {
  recording_of(a.next()).finish();
  return a.undefined();
}

// (capture, the bytes of all numbers)
Napi::Value capture_replay(Arguments& a) {
  Recording& recording = recording_of(a.next());
  const Napi::Value value = a.next();
  if (!value.IsTypedArray()) throw Error(Code::value, "binding: \"numbers\" is no typed array.");
  const Napi::TypedArray array = value.As<Napi::TypedArray>();
  const char* data = static_cast<const char*>(array.ArrayBuffer().Data()) + array.ByteOffset();
  recording.replay(data, array.ByteLength());
  return a.undefined();
}

// Also while it records: then nothing has changed.
Napi::Value capture_dispose(Arguments& a) {
  unwrap<CaptureBox>(a.next(), "capture").recording.reset();
  return a.undefined();
}

}  // namespace

void define_capture(Napi::Object exports) {
  define<capture_begin>(exports, "captureBegin", "device.capture");
  define<capture_numbers>(exports, "captureNumbers", "device.capture");
  define<capture_finish>(exports, "captureFinish", "device.capture");
  define<capture_replay>(exports, "captureReplay", "Capture.replay");
  define<capture_dispose, Makes::nothing>(exports, "captureDispose", "Capture.dispose");
}

}  // namespace ml::binding
