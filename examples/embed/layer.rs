//! layer.rs: opens a module in Rust and calls a kernel of it: y = tanh(W x + b), and the gradient of x.
//!
//!   rustc --edition 2021 -O layer.rs -C link-args="$(tiaot config --libs)"
//!   ./layer .../tiaot/modules/dense_tanh.tiaot.so
//!
//! The declarations are those of tiaot/tiaot.h that it needs; bindgen makes all of them. Handles may be used by any
//! number of threads, and the error of a call is its thread's own.
use std::ffi::{c_char, c_int, c_void, CStr, CString};
use std::marker::PhantomData;
use std::ptr;

/// DLPack's DLTensor, with its device and element type in place.
#[repr(C)]
struct Tensor {
    data: *mut c_void,
    device_type: i32,
    device_id: i32,
    rank: i32,
    code: u8,
    bits: u8,
    lanes: u16,
    shape: *mut i64,
    strides: *mut i64,
    byte_offset: u64,
}

const FORWARD: c_int = 0;
const VJP: c_int = 1;

extern "C" {
    fn tiaot_last_error() -> *const c_char;
    fn tiaot_module_open(path: *const c_char, module: *mut *mut c_void) -> c_int;
    fn tiaot_module_close(module: *mut c_void);
    fn tiaot_module_kernel(
        module: *const c_void,
        name: *const c_char,
        kernel: *mut *const c_void,
    ) -> c_int;
    fn tiaot_call(
        kernel: *const c_void,
        entry: c_int,
        wrt: u32,
        arrays: *const Tensor,
        count: i32,
        options: *const c_void,
    ) -> c_int;
}

/// Ok for status 0, else the runtime's message.
fn check(status: c_int) -> Result<(), String> {
    if status == 0 {
        return Ok(());
    }
    Err(unsafe { CStr::from_ptr(tiaot_last_error()) }
        .to_string_lossy()
        .into_owned())
}

struct Module(*mut c_void);

unsafe impl Send for Module {}
unsafe impl Sync for Module {}

impl Drop for Module {
    fn drop(&mut self) {
        unsafe { tiaot_module_close(self.0) }
    }
}

impl Module {
    fn open(path: &str) -> Result<Module, String> {
        let path = CString::new(path).map_err(|error| error.to_string())?;
        let mut module = ptr::null_mut();
        check(unsafe { tiaot_module_open(path.as_ptr(), &mut module) })?;
        Ok(Module(module))
    }

    fn kernel(&self, name: &str) -> Result<Kernel<'_>, String> {
        let name = CString::new(name).map_err(|error| error.to_string())?;
        let mut kernel = ptr::null();
        check(unsafe { tiaot_module_kernel(self.0, name.as_ptr(), &mut kernel) })?;
        Ok(Kernel {
            handle: kernel,
            module: PhantomData,
        })
    }
}

/// Lives no longer than its module.
#[derive(Clone, Copy)]
struct Kernel<'a> {
    handle: *const c_void,
    module: PhantomData<&'a Module>,
}

unsafe impl Send for Kernel<'_> {}
unsafe impl Sync for Kernel<'_> {}

/// An argument of a call: a dense array of f32, to read or to write. It borrows the memory, so that Rust sees to it
/// that no result is lent twice.
enum Array<'a> {
    In(&'a [f32], &'a [i64]),
    Out(&'a mut [f32], &'a [i64]),
}

impl Kernel<'_> {
    fn call(&self, entry: c_int, wrt: u32, arrays: &mut [Array]) -> Result<(), String> {
        let mut tensors = Vec::with_capacity(arrays.len());
        for array in arrays {
            let (data, length, shape) = match array {
                Array::In(values, shape) => (values.as_ptr() as *mut c_void, values.len(), *shape),
                Array::Out(values, shape) => {
                    (values.as_mut_ptr() as *mut c_void, values.len(), *shape)
                }
            };
            if shape.iter().product::<i64>() != length as i64 {
                return Err(format!(
                    "expected {length} elements, got the shape {shape:?}"
                ));
            }
            tensors.push(Tensor {
                data,
                device_type: 1, // the CPU
                device_id: 0,
                rank: shape.len() as i32,
                code: 2, // floating-point numbers
                bits: 32,
                lanes: 1,
                shape: shape.as_ptr() as *mut i64, // which is only read
                strides: ptr::null_mut(),
                byte_offset: 0,
            });
        }
        check(unsafe {
            tiaot_call(
                self.handle,
                entry,
                wrt,
                tensors.as_ptr(),
                tensors.len() as i32,
                ptr::null(),
            )
        })
    }
}

fn run(path: &str) -> Result<(), String> {
    let module = Module::open(path)?;
    let layer = module.kernel("dense_tanh")?;
    let x = [0.0, 1.0, 2.0, 3.0, 4.0, 5.0];
    let (weights, bias) = ([0.5, 0.0, -0.25, 0.0, 0.125, 0.0], [0.25, -0.5]);
    let (v, mut gx) = ([1.0, 0.0, 0.0, 1.0], [0.0; 6]);

    // Four threads call at once, each into memory of its own.
    let results = std::thread::scope(|scope| {
        let forward = || {
            let mut y = [0.0f32; 4];
            let mut arrays = [
                Array::In(&x, &[2, 3]),
                Array::In(&weights, &[2, 3]),
                Array::In(&bias, &[2]),
                Array::Out(&mut y, &[2, 2]),
            ];
            layer.call(FORWARD, 0, &mut arrays).map(|()| y)
        };
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(forward)).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect::<Result<Vec<_>, String>>()
    })?;
    if results.iter().any(|y| *y != results[0]) {
        return Err("threads differ".into());
    }
    let mut arrays = [
        Array::In(&x, &[2, 3]),
        Array::In(&weights, &[2, 3]),
        Array::In(&bias, &[2]),
        Array::In(&v, &[2, 2]),
        Array::Out(&mut gx, &[2, 3]),
    ];
    layer.call(VJP, 1, &mut arrays)?;

    let line = |numbers: &[f32]| {
        numbers
            .iter()
            .map(|each| format!("{each:.6}"))
            .collect::<Vec<_>>()
            .join(" ")
    };
    println!("y  {}", line(&results[0]));
    println!("gx {}", line(&gx));
    Ok(())
}

fn main() {
    let Some(path) = std::env::args().nth(1) else {
        eprintln!("usage: layer MODULE");
        std::process::exit(2);
    };
    if let Err(message) = run(&path) {
        eprintln!("layer: {message}");
        std::process::exit(1);
    }
}
