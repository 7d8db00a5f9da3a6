; Taichi's IR of task 1 of curve_float16_dynamic_vjp_x of tests/kernels/half.py for CUDA.
; ModuleID = 'kernel'
source_filename = "kernel"

%struct.RuntimeContext = type { i8*, %struct.LLVMRuntime*, i32, i64* }
%struct.LLVMRuntime = type { %struct.PreallocatedMemoryChunk, %struct.PreallocatedMemoryChunk, i8* (i8*, i64, i64)*, void (i8*)*, void (i8*, ...)*, i32 (i8*, i64, i8*, %struct.__va_list_tag*)*, i8*, [512 x i8*], [512 x i64], i8*, void (i8*, i32, i32, i8*, void (i8*, i32, i32)*)*, [1024 x %struct.ListManager*], [1024 x %struct.NodeManager*], [1024 x i8*], i8*, %struct.RandState*, i8*, void (i8*, i8*)*, void (i8*)*, [2048 x i8], [32 x i64], i32, i64, i8*, i32, i32, i64 }
%struct.PreallocatedMemoryChunk = type { i8*, i8*, i64 }
%struct.__va_list_tag = type { i32, i32, i8*, i8* }
%struct.ListManager = type { [131072 x i8*], i64, i64, i32, i32, i32, %struct.LLVMRuntime* }
%struct.NodeManager = type <{ %struct.LLVMRuntime*, i32, i32, i32, i32, %struct.ListManager*, %struct.ListManager*, %struct.ListManager*, i32, [4 x i8] }>
%struct.RandState = type { i32, i32, i32, i32, i32 }

define void @curve_c83_0_reverse_grad_kernel_1_range_for(%struct.RuntimeContext* byval(%struct.RuntimeContext) %context) {
entry:
  br label %body

final:                                            ; preds = %body
  ret void

body:                                             ; preds = %entry
  %0 = call %struct.LLVMRuntime* @RuntimeContext_get_runtime(%struct.RuntimeContext* %context)
  %1 = call i8* @get_temporary_pointer(%struct.LLVMRuntime* %0, i64 0)
  %2 = bitcast i8* %1 to i32*
  %3 = load i32, i32* %2, align 4
  call void @gpu_parallel_range_for(%struct.RuntimeContext* %context, i32 0, i32 %3, void (%struct.RuntimeContext*, i8*)* null, void (%struct.RuntimeContext*, i8*, i32)* @function_body, void (%struct.RuntimeContext*, i8*)* null, i64 1)
  br label %final
}

define internal void @function_body(%struct.RuntimeContext* %0, i8* %1, i32 %2) {
allocs:
  %3 = alloca i32, align 4
  br label %entry

final:                                            ; preds = %function_body
  ret void

entry:                                            ; preds = %allocs
  br label %function_body

function_body:                                    ; preds = %entry
  store i32 %2, i32* %3, align 4
  %4 = load i32, i32* %3, align 4
  %5 = call %struct.LLVMRuntime* @RuntimeContext_get_runtime(%struct.RuntimeContext* %0)
  %6 = call i8* @get_temporary_pointer(%struct.LLVMRuntime* %5, i64 0)
  %7 = bitcast i8* %6 to i32*
  %8 = load i32, i32* %7, align 4
  %9 = srem i32 %4, %8
  %10 = getelementptr %struct.RuntimeContext, %struct.RuntimeContext* %0, i32 0, i32 0
  %11 = bitcast i8** %10 to { { { i32 }, half*, half* }, half, { { i32 }, half*, half* } }**
  %12 = load { { { i32 }, half*, half* }, half, { { i32 }, half*, half* } }*, { { { i32 }, half*, half* }, half, { { i32 }, half*, half* } }** %11, align 8
  %13 = getelementptr { { { i32 }, half*, half* }, half, { { i32 }, half*, half* } }, { { { i32 }, half*, half* }, half, { { i32 }, half*, half* } }* %12, i32 0, i32 0
  %14 = getelementptr { { i32 }, half*, half* }, { { i32 }, half*, half* }* %13, i32 0, i32 1
  %15 = load half*, half** %14, align 8
  %16 = getelementptr { { i32 }, half*, half* }, { { i32 }, half*, half* }* %13, i32 0, i32 0, i32 0
  %17 = load i32, i32* %16, align 4
  %18 = mul i32 0, %17
  %19 = add i32 %18, %9
  %20 = getelementptr half, half* %15, i32 %19
  %21 = load half, half* %20, align 2
  %22 = fpext half %21 to float
  %23 = call float @__nv_tanhf(float %22)
  %24 = fptrunc float %23 to half
  %25 = getelementptr %struct.RuntimeContext, %struct.RuntimeContext* %0, i32 0, i32 0
  %26 = bitcast i8** %25 to { { { i32 }, half*, half* }, half, { { i32 }, half*, half* } }**
  %27 = load { { { i32 }, half*, half* }, half, { { i32 }, half*, half* } }*, { { { i32 }, half*, half* }, half, { { i32 }, half*, half* } }** %26, align 8
  %28 = getelementptr { { { i32 }, half*, half* }, half, { { i32 }, half*, half* } }, { { { i32 }, half*, half* }, half, { { i32 }, half*, half* } }* %27, i32 0, i32 2
  %29 = getelementptr { { i32 }, half*, half* }, { { i32 }, half*, half* }* %28, i32 0, i32 2
  %30 = load half*, half** %29, align 8
  %31 = getelementptr { { i32 }, half*, half* }, { { i32 }, half*, half* }* %28, i32 0, i32 0, i32 0
  %32 = load i32, i32* %31, align 4
  %33 = mul i32 0, %32
  %34 = add i32 %33, %9
  %35 = getelementptr half, half* %30, i32 %34
  %36 = load half, half* %35, align 2
  store half 0xH0000, half* %35, align 2
  %37 = fmul half %36, %21
  %38 = fmul half %36, %24
  %39 = fmul half %24, %24
  %40 = fpext half %39 to float
  %41 = fsub float 1.000000e+00, %40
  %42 = fpext half %37 to float
  %43 = fmul float %42, %41
  %44 = fpext half %38 to float
  %45 = fadd float %44, %43
  %46 = fptrunc float %45 to half
  %47 = getelementptr { { i32 }, half*, half* }, { { i32 }, half*, half* }* %13, i32 0, i32 2
  %48 = load half*, half** %47, align 8
  %49 = getelementptr { { i32 }, half*, half* }, { { i32 }, half*, half* }* %13, i32 0, i32 0, i32 0
  %50 = load i32, i32* %49, align 4
  %51 = mul i32 0, %50
  %52 = add i32 %51, %9
  %53 = getelementptr half, half* %48, i32 %52
  %54 = load half, half* %53, align 2
  %55 = fadd half %54, %46
  store half %55, half* %53, align 2
  br label %final
}

; Function Attrs: alwaysinline mustprogress nounwind uwtable
declare %struct.LLVMRuntime* @RuntimeContext_get_runtime(%struct.RuntimeContext* noundef) #0

; Function Attrs: alwaysinline mustprogress nounwind uwtable
declare i8* @get_temporary_pointer(%struct.LLVMRuntime* noundef, i64 noundef) #0

; Function Attrs: alwaysinline inlinehint
declare float @__nv_tanhf(float) #1

; Function Attrs: alwaysinline mustprogress nounwind uwtable
declare void @gpu_parallel_range_for(%struct.RuntimeContext* noundef, i32 noundef, i32 noundef, void (%struct.RuntimeContext*, i8*)* noundef, void (%struct.RuntimeContext*, i8*, i32)* noundef, void (%struct.RuntimeContext*, i8*)* noundef, i64 noundef) #0

attributes #0 = { alwaysinline mustprogress nounwind uwtable "frame-pointer"="all" "min-legal-vector-width"="0" "no-trapping-math"="true" "stack-protector-buffer-size"="8" "target-cpu"="x86-64" "target-features"="+cx8,+fxsr,+mmx,+sse,+sse2,+x87" "tune-cpu"="generic" }
attributes #1 = { alwaysinline inlinehint }
