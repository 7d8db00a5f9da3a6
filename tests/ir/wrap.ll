; Taichi's IR of task 1 of wrap_float32_dynamic_forward of tests/kernels/rows.py for CUDA.
; ModuleID = 'kernel'
source_filename = "kernel"

%struct.RuntimeContext = type { i8*, %struct.LLVMRuntime*, i32, i64* }
%struct.LLVMRuntime = type { %struct.PreallocatedMemoryChunk, %struct.PreallocatedMemoryChunk, i8* (i8*, i64, i64)*, void (i8*)*, void (i8*, ...)*, i32 (i8*, i64, i8*, %struct.__va_list_tag*)*, i8*, [512 x i8*], [512 x i64], i8*, void (i8*, i32, i32, i8*, void (i8*, i32, i32)*)*, [1024 x %struct.ListManager*], [1024 x %struct.NodeManager*], [1024 x i8*], i8*, %struct.RandState*, i8*, void (i8*, i8*)*, void (i8*)*, [2048 x i8], [32 x i64], i32, i64, i8*, i32, i32, i64 }
%struct.PreallocatedMemoryChunk = type { i8*, i8*, i64 }
%struct.__va_list_tag = type { i32, i32, i8*, i8* }
%struct.ListManager = type { [131072 x i8*], i64, i64, i32, i32, i32, %struct.LLVMRuntime* }
%struct.NodeManager = type <{ %struct.LLVMRuntime*, i32, i32, i32, i32, %struct.ListManager*, %struct.ListManager*, %struct.ListManager*, i32, [4 x i8] }>
%struct.RandState = type { i32, i32, i32, i32, i32 }

define void @wrap_c88_0_kernel_1_range_for(%struct.RuntimeContext* byval(%struct.RuntimeContext) %context) {
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
  %11 = bitcast i8** %10 to { { { i32 }, i64* }, i32, { { i32 }, i8* } }**
  %12 = load { { { i32 }, i64* }, i32, { { i32 }, i8* } }*, { { { i32 }, i64* }, i32, { { i32 }, i8* } }** %11, align 8
  %13 = getelementptr { { { i32 }, i64* }, i32, { { i32 }, i8* } }, { { { i32 }, i64* }, i32, { { i32 }, i8* } }* %12, i32 0, i32 0
  %14 = getelementptr { { i32 }, i64* }, { { i32 }, i64* }* %13, i32 0, i32 1
  %15 = load i64*, i64** %14, align 8
  %16 = getelementptr { { i32 }, i64* }, { { i32 }, i64* }* %13, i32 0, i32 0, i32 0
  %17 = load i32, i32* %16, align 4
  %18 = mul i32 0, %17
  %19 = add i32 %18, %9
  %20 = getelementptr i64, i64* %15, i32 %19
  %21 = load i64, i64* %20, align 4
  %22 = getelementptr %struct.RuntimeContext, %struct.RuntimeContext* %0, i32 0, i32 0
  %23 = bitcast i8** %22 to { { { i32 }, i64* }, i32, { { i32 }, i8* } }**
  %24 = load { { { i32 }, i64* }, i32, { { i32 }, i8* } }*, { { { i32 }, i64* }, i32, { { i32 }, i8* } }** %23, align 8
  %25 = getelementptr { { { i32 }, i64* }, i32, { { i32 }, i8* } }, { { { i32 }, i64* }, i32, { { i32 }, i8* } }* %24, i32 0, i32 1
  %26 = load i32, i32* %25, align 4
  %27 = sext i32 %26 to i64
  %28 = sdiv i64 %21, %27
  %29 = icmp slt i64 %21, 0
  %30 = icmp slt i64 %27, 0
  %31 = mul i64 %27, %28
  %32 = icmp ne i1 %29, %30
  %33 = icmp ne i64 %21, 0
  %34 = icmp ne i64 %31, %21
  %35 = icmp ne i1 %32, false
  %36 = icmp ne i1 %33, false
  %37 = and i1 %35, %36
  %38 = icmp ne i1 %37, false
  %39 = icmp ne i1 %34, false
  %40 = and i1 %38, %39
  %41 = zext i1 %40 to i64
  %42 = sub i64 %28, %41
  %43 = mul i64 %27, %42
  %44 = sub i64 %21, %43
  %45 = trunc i64 %44 to i8
  %46 = getelementptr %struct.RuntimeContext, %struct.RuntimeContext* %0, i32 0, i32 0
  %47 = bitcast i8** %46 to { { { i32 }, i64* }, i32, { { i32 }, i8* } }**
  %48 = load { { { i32 }, i64* }, i32, { { i32 }, i8* } }*, { { { i32 }, i64* }, i32, { { i32 }, i8* } }** %47, align 8
  %49 = getelementptr { { { i32 }, i64* }, i32, { { i32 }, i8* } }, { { { i32 }, i64* }, i32, { { i32 }, i8* } }* %48, i32 0, i32 2
  %50 = getelementptr { { i32 }, i8* }, { { i32 }, i8* }* %49, i32 0, i32 1
  %51 = load i8*, i8** %50, align 8
  %52 = getelementptr { { i32 }, i8* }, { { i32 }, i8* }* %49, i32 0, i32 0, i32 0
  %53 = load i32, i32* %52, align 4
  %54 = mul i32 0, %53
  %55 = add i32 %54, %9
  %56 = getelementptr i8, i8* %51, i32 %55
  store i8 %45, i8* %56, align 1
  br label %final
}

; Function Attrs: alwaysinline mustprogress nounwind uwtable
declare %struct.LLVMRuntime* @RuntimeContext_get_runtime(%struct.RuntimeContext* noundef) #0

; Function Attrs: alwaysinline mustprogress nounwind uwtable
declare i8* @get_temporary_pointer(%struct.LLVMRuntime* noundef, i64 noundef) #0

; Function Attrs: alwaysinline mustprogress nounwind uwtable
declare void @gpu_parallel_range_for(%struct.RuntimeContext* noundef, i32 noundef, i32 noundef, void (%struct.RuntimeContext*, i8*)* noundef, void (%struct.RuntimeContext*, i8*, i32)* noundef, void (%struct.RuntimeContext*, i8*)* noundef, i64 noundef) #0

attributes #0 = { alwaysinline mustprogress nounwind uwtable "frame-pointer"="all" "min-legal-vector-width"="0" "no-trapping-math"="true" "stack-protector-buffer-size"="8" "target-cpu"="x86-64" "target-features"="+cx8,+fxsr,+mmx,+sse,+sse2,+x87" "tune-cpu"="generic" }
