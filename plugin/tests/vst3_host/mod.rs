//! A small VST3 host: it loads what cargo built through `GetPluginFactory` and calls the interfaces themselves, so
//! that it can do what hosts with manners never would.
#![allow(dead_code, unused_imports)]

use std::cell::{Cell, RefCell};
use std::ffi::{CString, c_void};
use std::os::unix::ffi::OsStrExt;
use std::sync::OnceLock;

use vst3::Steinberg::Vst::{
    AudioBusBuffers, AudioBusBuffers__type0, BusDirections_, IAudioProcessor, IAudioProcessorTrait,
    IComponent, IComponentHandler, IComponentHandlerTrait, IComponentTrait, IEditController,
    IEditControllerTrait, IParamValueQueue, IParamValueQueueTrait, IParameterChanges,
    IParameterChangesTrait, MediaTypes_, ParamID, ParamValue, ParameterInfo, ProcessContext,
    ProcessContext_, ProcessData, ProcessSetup, SpeakerArr, SpeakerArrangement,
    SymbolicSampleSizes_,
};
use vst3::Steinberg::{
    FIDString, IBStream, IBStream_::IStreamSeekMode_, IBStreamTrait, IPluginBaseTrait,
    IPluginFactory, IPluginFactoryTrait, PClassInfo, int32, int64, kInvalidArgument,
    kNotImplemented, kResultFalse, kResultOk, tresult,
};
use vst3::{Class, ComPtr, ComWrapper, Interface};

pub use vst3::Steinberg::Vst::ProcessModes_::{kOffline, kPrefetch, kRealtime};

/// One channel, and left and right.
pub const MONO: SpeakerArrangement = SpeakerArr::kMono;
pub const STEREO: SpeakerArrangement = SpeakerArr::kStereo;

const AUDIO: i32 = MediaTypes_::kAudio as i32;
const DIRECTIONS: [i32; 2] = [BusDirections_::kInput as i32, BusDirections_::kOutput as i32];

/// The factory of the library that lies beside the test.
pub fn factory() -> &'static ComPtr<IPluginFactory> {
    struct Shared(ComPtr<IPluginFactory>);
    // SAFETY: the plugin's factory is plain data that never changes, and its count is atomic.
    unsafe impl Send for Shared {}
    // SAFETY: as above.
    unsafe impl Sync for Shared {}
    static FACTORY: OnceLock<Shared> = OnceLock::new();
    &FACTORY
        .get_or_init(|| {
            let name = format!(
                "{}tessera_plugin{}",
                std::env::consts::DLL_PREFIX,
                std::env::consts::DLL_SUFFIX
            );
            let path = std::env::current_exe().unwrap().with_file_name(name);
            let path = CString::new(path.as_os_str().as_bytes()).unwrap();
            // SAFETY: this is our own plugin, built together with this test; it is never unloaded. The function has
            // the type that VST3 gives it, and what it returns is a reference for the caller.
            let factory = unsafe {
                let library = libc::dlopen(path.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL);
                assert!(!library.is_null(), "{path:?} cannot be loaded");
                let entry = libc::dlsym(library, c"GetPluginFactory".as_ptr());
                assert!(!entry.is_null(), "there is no GetPluginFactory");
                let entry =
                    std::mem::transmute::<*mut c_void, extern "system" fn() -> *mut c_void>(entry);
                ComPtr::from_raw(entry().cast::<IPluginFactory>())
            };
            Shared(factory.unwrap())
        })
        .0
}

/// Numbers of a text that C ends with a zero.
pub fn text(units: &[i8]) -> String {
    units.iter().take_while(|unit| **unit != 0).map(|unit| *unit as u8 as char).collect()
}

/// What the factory says of its class `index`.
pub fn class(index: i32) -> Option<PClassInfo> {
    // SAFETY: all zeros is a value of this type, which is numbers alone.
    let mut info: PClassInfo = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is to an info.
    let result = unsafe { factory().getClassInfo(index, &mut info) };
    (result == kResultOk).then_some(info)
}

/// A host's answer to what the plugin asks for.
#[derive(Default)]
pub struct Handler {
    /// What `restartComponent` was called with.
    pub restarts: RefCell<Vec<i32>>,
}

impl Class for Handler {
    type Interfaces = (IComponentHandler,);
}

impl IComponentHandlerTrait for Handler {
    unsafe fn beginEdit(&self, _id: ParamID) -> tresult {
        kResultOk
    }
    unsafe fn performEdit(&self, _id: ParamID, _value: ParamValue) -> tresult {
        kResultOk
    }
    unsafe fn endEdit(&self, _id: ParamID) -> tresult {
        kResultOk
    }
    unsafe fn restartComponent(&self, flags: i32) -> tresult {
        self.restarts.borrow_mut().push(flags);
        kResultOk
    }
}

/// A stream in memory.
struct Stream {
    bytes: RefCell<Vec<u8>>,
    place: Cell<usize>,
}

impl Class for Stream {
    type Interfaces = (IBStream,);
}

impl IBStreamTrait for Stream {
    unsafe fn read(&self, buffer: *mut c_void, count: int32, done: *mut int32) -> tresult {
        let bytes = self.bytes.borrow();
        let rest = &bytes[self.place.get().min(bytes.len())..];
        let count = rest.len().min(count.max(0) as usize);
        // SAFETY: the plugin says that `buffer` has room for `count` bytes or more.
        unsafe { std::ptr::copy_nonoverlapping(rest.as_ptr(), buffer.cast(), count) };
        self.place.set(self.place.get() + count);
        if !done.is_null() {
            // SAFETY: the plugin hands over a pointer to a number, or none.
            unsafe { *done = count as i32 };
        }
        kResultOk
    }
    unsafe fn write(&self, buffer: *mut c_void, count: int32, done: *mut int32) -> tresult {
        // SAFETY: the plugin says that there are `count` bytes.
        let new = unsafe { std::slice::from_raw_parts(buffer.cast::<u8>(), count as usize) };
        self.bytes.borrow_mut().extend_from_slice(new);
        if !done.is_null() {
            // SAFETY: as in `read`.
            unsafe { *done = count };
        }
        kResultOk
    }
    unsafe fn seek(&self, place: int64, mode: int32, result: *mut int64) -> tresult {
        let from = match mode as u32 {
            IStreamSeekMode_::kIBSeekSet => 0,
            IStreamSeekMode_::kIBSeekCur => self.place.get() as i64,
            IStreamSeekMode_::kIBSeekEnd => self.bytes.borrow().len() as i64,
            _ => return kInvalidArgument,
        };
        let Ok(place) = usize::try_from(from + place) else { return kInvalidArgument };
        self.place.set(place);
        if !result.is_null() {
            // SAFETY: as in `read`.
            unsafe { *result = place as i64 };
        }
        kResultOk
    }
    unsafe fn tell(&self, place: *mut int64) -> tresult {
        // SAFETY: as in `read`; nobody asks without a place for the answer.
        unsafe { *place = self.place.get() as i64 };
        kResultOk
    }
}

/// A change of a parameter within a block: which, at which sample, its new value from 0 to 1.
#[derive(Debug, Clone, Copy)]
pub struct Change(pub ParamID, pub usize, pub f64);

/// A queue for each change: the plugin has to put them in order.
struct Changes(Vec<ComPtr<IParamValueQueue>>);

impl Class for Changes {
    type Interfaces = (IParameterChanges,);
}

impl IParameterChangesTrait for Changes {
    unsafe fn getParameterCount(&self) -> int32 {
        self.0.len() as i32
    }
    unsafe fn getParameterData(&self, index: int32) -> *mut IParamValueQueue {
        self.0.get(index as usize).map_or(std::ptr::null_mut(), ComPtr::as_ptr)
    }
    unsafe fn addParameterData(
        &self,
        _id: *const ParamID,
        _index: *mut int32,
    ) -> *mut IParamValueQueue {
        std::ptr::null_mut()
    }
}

impl Class for Change {
    type Interfaces = (IParamValueQueue,);
}

impl IParamValueQueueTrait for Change {
    unsafe fn getParameterId(&self) -> ParamID {
        self.0
    }
    unsafe fn getPointCount(&self) -> int32 {
        1
    }
    unsafe fn getPoint(&self, index: int32, at: *mut int32, value: *mut ParamValue) -> tresult {
        if index != 0 {
            return kInvalidArgument;
        }
        // SAFETY: the plugin hands over pointers to numbers.
        unsafe { (*at, *value) = (self.1 as i32, self.2) };
        kResultOk
    }
    unsafe fn addPoint(&self, _at: int32, _value: ParamValue, _index: *mut int32) -> tresult {
        kNotImplemented
    }
}

/// What a host decides before it activates.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Setup {
    pub rate: f64,
    pub largest: usize,
    pub mode: i32,
    pub channels: usize,
}

impl Setup {
    /// Stereo in real time, in blocks of up to 8192.
    pub fn at(rate: f64) -> Self {
        Self { rate, largest: 8192, mode: kRealtime as i32, channels: 2 }
    }
}

/// A plugin as a host holds it. Processing begins with [`Instance::start`].
pub struct Instance {
    pub component: ComPtr<IComponent>,
    pub processor: ComPtr<IAudioProcessor>,
    pub controller: ComPtr<IEditController>,
    pub handler: ComWrapper<Handler>,
    setup: Option<Setup>,
    time: i64,
}

impl Instance {
    pub fn new() -> Self {
        let info = class(0).unwrap();
        let mut object = std::ptr::null_mut();
        let interface = IComponent::IID;
        // SAFETY: both ids are 16 bytes, and what comes back is a reference for the caller.
        let component = unsafe {
            let interface: FIDString = interface.as_ptr().cast();
            let result = factory().createInstance(info.cid.as_ptr(), interface, &mut object);
            assert_eq!(result, kResultOk);
            ComPtr::from_raw(object.cast::<IComponent>()).unwrap()
        };
        let handler = ComWrapper::new(Handler::default());
        let instance = Self {
            processor: component.cast().unwrap(),
            controller: component.cast().unwrap(),
            component,
            handler,
            setup: None,
            time: 0,
        };
        // SAFETY: the plugin asks nothing of its host; the handler is counted.
        unsafe {
            assert_eq!(instance.component.initialize(std::ptr::null_mut()), kResultOk);
            let handler = instance.handler.to_com_ptr::<IComponentHandler>().unwrap();
            assert_eq!(instance.controller.setComponentHandler(handler.as_ptr()), kResultOk);
        }
        instance
    }

    /// Ids and names of the parameters.
    pub fn params(&self) -> Vec<(ParamID, String)> {
        // SAFETY: the pointers are to infos, whose value may be all zeros.
        unsafe {
            (0..self.controller.getParameterCount())
                .map(|index| {
                    let mut info: ParameterInfo = std::mem::zeroed();
                    assert_eq!(self.controller.getParameterInfo(index, &mut info), kResultOk);
                    let title = info.title.iter().take_while(|unit| **unit != 0);
                    (info.id, title.map(|unit| *unit as u8 as char).collect())
                })
                .collect()
        }
    }

    pub fn param(&self, name: &str) -> ParamID {
        self.params().into_iter().find(|(_, known)| known == name).unwrap().0
    }

    pub fn get(&self, name: &str) -> f64 {
        // SAFETY: nothing but numbers is handed over.
        unsafe { self.controller.getParamNormalized(self.param(name)) }
    }

    /// Sets a parameter as a host's knob does; while sound runs, the plugin waits for the block that says the same.
    pub fn set(&self, name: &str, value: f64) {
        // SAFETY: as above.
        let result = unsafe { self.controller.setParamNormalized(self.param(name), value) };
        assert_eq!(result, kResultOk, "{name}");
    }

    pub fn save(&self) -> Vec<u8> {
        let stream = ComWrapper::new(Stream { bytes: RefCell::default(), place: Cell::default() });
        let pointer = stream.to_com_ptr::<IBStream>().unwrap();
        // SAFETY: the stream lives to the end of this function.
        assert_eq!(unsafe { self.component.getState(pointer.as_ptr()) }, kResultOk);
        stream.bytes.take()
    }

    /// Loads what follows the first `place` bytes, as hosts do that write something of their own before it.
    pub fn load_from(&self, bytes: &[u8], place: usize) -> bool {
        let stream = Stream { bytes: RefCell::new(bytes.into()), place: Cell::new(place) };
        let stream = ComWrapper::new(stream);
        let pointer = stream.to_com_ptr::<IBStream>().unwrap();
        // SAFETY: the stream lives to the end of this function.
        let result = unsafe { self.component.setState(pointer.as_ptr()) };
        assert!(result == kResultOk || result == kResultFalse, "setState gives {result}");
        result == kResultOk
    }

    pub fn load(&self, bytes: &[u8]) -> bool {
        self.load_from(bytes, 0)
    }

    /// Whether the plugin takes buses of these speakers.
    pub fn arrange(&self, mut input: SpeakerArrangement, mut output: SpeakerArrangement) -> bool {
        // SAFETY: the pointers are to one arrangement each, as the numbers say.
        unsafe { self.processor.setBusArrangements(&mut input, 1, &mut output, 1) == kResultOk }
    }

    /// The speakers of input and output.
    pub fn arrangement(&self) -> [SpeakerArrangement; 2] {
        DIRECTIONS.map(|direction| {
            let mut speakers = 0;
            // SAFETY: the pointer is to an arrangement.
            let result = unsafe { self.processor.getBusArrangement(direction, 0, &mut speakers) };
            assert_eq!(result, kResultOk);
            speakers
        })
    }

    /// Numbers of buses in and out.
    pub fn buses(&self) -> [i32; 2] {
        // SAFETY: nothing but numbers is handed over.
        DIRECTIONS.map(|direction| unsafe { self.component.getBusCount(AUDIO, direction) })
    }

    /// Activates and begins to process; stops first what runs.
    pub fn start(&mut self, setup: Setup) {
        self.stop();
        let speakers = if setup.channels == 1 { MONO } else { STEREO };
        assert!(self.arrange(speakers, speakers));
        let mut process = ProcessSetup {
            processMode: setup.mode,
            symbolicSampleSize: SymbolicSampleSizes_::kSample32 as i32,
            maxSamplesPerBlock: setup.largest as i32,
            sampleRate: setup.rate,
        };
        // SAFETY: the pointer is to a setup; the order of the calls is the one that VST3 wants.
        unsafe {
            assert_eq!(self.processor.setupProcessing(&mut process), kResultOk);
            for direction in DIRECTIONS {
                assert_eq!(self.component.activateBus(AUDIO, direction, 0, 1), kResultOk);
            }
            assert_eq!(self.component.setActive(1), kResultOk);
            assert_eq!(self.processor.setProcessing(1), kResultOk);
        }
        self.setup = Some(setup);
        self.time = 0;
    }

    /// Stops processing and deactivates, if it runs.
    pub fn stop(&mut self) {
        if self.setup.take().is_some() {
            // SAFETY: nothing but numbers is handed over, and no other thread processes.
            unsafe {
                assert_eq!(self.processor.setProcessing(0), kResultOk);
                assert_eq!(self.component.setActive(0), kResultOk);
            }
        }
    }

    pub fn latency(&self) -> usize {
        // SAFETY: nothing is handed over.
        unsafe { self.processor.getLatencySamples() as usize }
    }

    pub fn tail(&self) -> u32 {
        // SAFETY: nothing is handed over.
        unsafe { self.processor.getTailSamples() }
    }

    /// A block: what is in `out` is replaced by what becomes of `input`; without one, of what is in `out` itself.
    pub fn process(
        &mut self,
        input: Option<&[Vec<f32>]>,
        out: &mut [Vec<f32>],
        changes: &[Change],
    ) {
        let setup = self.setup.unwrap();
        let samples = out[0].len();
        assert!(samples <= setup.largest && out.len() == setup.channels);
        let mut outputs: Vec<*mut f32> = out.iter_mut().map(Vec::as_mut_ptr).collect();
        let mut inputs = match input {
            None => outputs.clone(),
            Some(input) => input.iter().map(|channel| channel.as_ptr().cast_mut()).collect(),
        };
        assert!(input.is_none_or(|input| input.iter().all(|c| c.len() == samples)));
        let bus = |channels: &mut Vec<*mut f32>| AudioBusBuffers {
            numChannels: channels.len() as i32,
            silenceFlags: 0,
            __field0: AudioBusBuffers__type0 { channelBuffers32: channels.as_mut_ptr() },
        };
        let (mut input, mut output) = (bus(&mut inputs), bus(&mut outputs));
        let queues = changes.iter().map(|change| ComWrapper::new(*change).to_com_ptr().unwrap());
        let changes = ComWrapper::new(Changes(queues.collect()));
        let changes = changes.to_com_ptr::<IParameterChanges>().unwrap();
        // SAFETY: all zeros is a value of this type, which is numbers alone.
        let mut context: ProcessContext = unsafe { std::mem::zeroed() };
        context.state = ProcessContext_::StatesAndFlags_::kPlaying
            | ProcessContext_::StatesAndFlags_::kTempoValid;
        context.sampleRate = setup.rate;
        context.projectTimeSamples = self.time;
        context.tempo = 120.0;
        let mut data = ProcessData {
            processMode: setup.mode,
            symbolicSampleSize: SymbolicSampleSizes_::kSample32 as i32,
            numSamples: samples as i32,
            numInputs: 1,
            numOutputs: 1,
            inputs: &mut input,
            outputs: &mut output,
            inputParameterChanges: changes.as_ptr(),
            outputParameterChanges: std::ptr::null_mut(),
            inputEvents: std::ptr::null_mut(),
            outputEvents: std::ptr::null_mut(),
            processContext: &mut context,
        };
        // SAFETY: all that the pointers lead to lives to the end of this function, and each channel has as many samples
        // as the block. The plugin only reads what came in, unless it lies where its output does.
        let result = unsafe { self.processor.process(&mut data) };
        assert_eq!(result, kResultOk);
        self.time += samples as i64;
    }

    /// Hands parameters over without any sound, as hosts do that stand still.
    pub fn flush(&mut self, changes: &[Change]) {
        let mut none = vec![Vec::new(); self.setup.unwrap().channels];
        self.process(None, &mut none, changes);
    }

    /// A whole sound in blocks of the given sizes, over and over, with automation.
    pub fn render(
        &mut self,
        sound: &[Vec<f32>],
        blocks: &[usize],
        automation: &[Change],
    ) -> Vec<Vec<f32>> {
        let length = sound[0].len();
        let mut all = vec![Vec::with_capacity(length); sound.len()];
        let (mut at, mut sizes) = (0, blocks.iter().cycle());
        while at < length {
            let end = (at + sizes.next().unwrap()).min(length);
            let changes: Vec<Change> = automation
                .iter()
                .filter(|change| (at..end).contains(&change.1))
                .map(|change| Change(change.0, change.1 - at, change.2))
                .collect();
            let input: Vec<Vec<f32>> = sound.iter().map(|c| c[at..end].to_vec()).collect();
            // What a plugin does not write is seen.
            let mut out = vec![vec![f32::NAN; end - at]; sound.len()];
            self.process(Some(&input), &mut out, &changes);
            for (all, out) in all.iter_mut().zip(out) {
                all.extend(out);
            }
            at = end;
        }
        all
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.stop();
        }
        // SAFETY: it is the last call but for giving the references back.
        unsafe {
            self.controller.setComponentHandler(std::ptr::null_mut());
            self.component.terminate();
        }
    }
}

/// Neither NaN nor infinite nor subnormal.
pub fn proper(sample: f32) -> bool {
    sample == 0.0 || sample.is_normal()
}
