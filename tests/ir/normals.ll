; Taichi's IR of task 1 of normals_float64_dynamic_forward of examples/kernels/geometry.py for the CPU.
; ModuleID = 'kernel'
source_filename = "kernel"
target datalayout = "e-m:e-p270:32:32-p271:32:32-p272:64:64-i64:64-f80:128-n8:16:32:64-S128"

%struct.RuntimeContext = type { i8*, %struct.LLVMRuntime*, i32, i64* }
%struct.LLVMRuntime = type { %struct.PreallocatedMemoryChunk, %struct.PreallocatedMemoryChunk, i8* (i8*, i64, i64)*, void (i8*)*, void (i8*, ...)*, i32 (i8*, i64, i8*, %struct.__va_list_tag*)*, i8*, [512 x i8*], [512 x i64], i8*, void (i8*, i32, i32, i8*, void (i8*, i32, i32)*)*, [1024 x %struct.ListManager*], [1024 x %struct.NodeManager*], [1024 x i8*], i8*, %struct.RandState*, i8*, void (i8*, i8*)*, void (i8*)*, [2048 x i8], [32 x i64], i32, i64, i8*, i32, i32, i64 }
%struct.PreallocatedMemoryChunk = type { i8*, i8*, i64 }
%struct.__va_list_tag = type { i32, i32, i8*, i8* }
%struct.ListManager = type { [131072 x i8*], i64, i64, i32, i32, i32, %struct.LLVMRuntime* }
%struct.NodeManager = type <{ %struct.LLVMRuntime*, i32, i32, i32, i32, %struct.ListManager*, %struct.ListManager*, %struct.ListManager*, i32, [4 x i8] }>
%struct.RandState = type { i32, i32, i32, i32, i32 }

define void @normals_c84_0_kernel_1_range_for(%struct.RuntimeContext* %context) {
entry:
  br label %body

final:                                            ; preds = %body
  ret void

body:                                             ; preds = %entry
  call void @cpu_parallel_range_for(%struct.RuntimeContext* %context, i32 2, i32 0, i32 16, i32 1, i32 1, void (%struct.RuntimeContext*, i8*)* null, void (%struct.RuntimeContext*, i8*, i32)* @function_body, void (%struct.RuntimeContext*, i8*)* null, i64 1)
  br label %final
}

define internal void @function_body(%struct.RuntimeContext* %0, i8* %1, i32 %2) {
allocs:
  %3 = alloca i32, align 4
  %4 = alloca i32, align 4
  br label %entry

final:                                            ; preds = %after_for
  ret void

entry:                                            ; preds = %allocs
  br label %function_body

function_body:                                    ; preds = %entry
  store i32 %2, i32* %3, align 4
  %5 = load i32, i32* %3, align 4
  %6 = call %struct.LLVMRuntime* @RuntimeContext_get_runtime(%struct.RuntimeContext* %0)
  %7 = call i8* @get_temporary_pointer(%struct.LLVMRuntime* %6, i64 0)
  %8 = bitcast i8* %7 to i32*
  %9 = load i32, i32* %8, align 4
  %10 = sub i32 %9, -15
  %11 = sdiv i32 %10, 16
  %12 = icmp slt i32 %10, 0
  %13 = shl i32 %11, 4
  %14 = icmp ne i1 %12, false
  %15 = icmp ne i32 %10, 0
  %16 = icmp ne i32 %13, %10
  %17 = icmp ne i1 %14, false
  %18 = icmp ne i1 %15, false
  %19 = and i1 %17, %18
  %20 = icmp ne i1 %19, false
  %21 = icmp ne i1 %16, false
  %22 = and i1 %20, %21
  %23 = zext i1 %22 to i32
  %24 = sub i32 %11, %23
  %25 = call i32 @max_i32(i32 %24, i32 512)
  %26 = mul i32 %25, %5
  %27 = add i32 %26, %25
  %28 = call i32 @min_i32(i32 %9, i32 %27)
  %29 = getelementptr %struct.RuntimeContext, %struct.RuntimeContext* %0, i32 0, i32 0
  %30 = bitcast i8** %29 to { { { i32 }, double* }, { { i32 }, double* } }**
  %31 = load { { { i32 }, double* }, { { i32 }, double* } }*, { { { i32 }, double* }, { { i32 }, double* } }** %30, align 8
  %32 = getelementptr { { { i32 }, double* }, { { i32 }, double* } }, { { { i32 }, double* }, { { i32 }, double* } }* %31, i32 0, i32 1
  store i32 %26, i32* %4, align 4
  br label %for_loop_test

for_loop_body:                                    ; preds = %for_loop_test
  %33 = load i32, i32* %4, align 4
  %34 = load i32, i32* %8, align 4
  %35 = srem i32 %33, %34
  %36 = call double @rand_f64(%struct.RuntimeContext* %0)
  %37 = fsub double 1.000000e+00, %36
  %38 = call double @rand_f64(%struct.RuntimeContext* %0)
  %39 = call double @log_f64(double %37)
  %40 = fmul double %39, -2.000000e+00
  %41 = call double @llvm.sqrt.f64(double %40)
  %42 = fmul double %38, 0x401921FB60000000
  %43 = call double @cos_f64(double %42)
  %44 = fmul double %41, %43
  %45 = getelementptr { { i32 }, double* }, { { i32 }, double* }* %32, i32 0, i32 1
  %46 = load double*, double** %45, align 8
  %47 = getelementptr { { i32 }, double* }, { { i32 }, double* }* %32, i32 0, i32 0, i32 0
  %48 = load i32, i32* %47, align 4
  %49 = mul i32 0, %48
  %50 = add i32 %49, %35
  %51 = getelementptr double, double* %46, i32 %50
  store double %44, double* %51, align 8
  br label %for_loop_inc

for_loop_inc:                                     ; preds = %for_loop_body
  %52 = load i32, i32* %4, align 4
  %53 = add i32 %52, 1
  store i32 %53, i32* %4, align 4
  br label %for_loop_test

after_for:                                        ; preds = %for_loop_test
  br label %final

for_loop_test:                                    ; preds = %for_loop_inc, %function_body
  %54 = load i32, i32* %4, align 4
  %55 = icmp slt i32 %54, %28
  br i1 %55, label %for_loop_body, label %after_for
}

; Function Attrs: alwaysinline mustprogress nounwind uwtable
declare %struct.LLVMRuntime* @RuntimeContext_get_runtime(%struct.RuntimeContext* noundef) #0

; Function Attrs: alwaysinline mustprogress nounwind uwtable
declare i8* @get_temporary_pointer(%struct.LLVMRuntime* noundef, i64 noundef) #0

; Function Attrs: alwaysinline mustprogress nounwind uwtable
declare i32 @max_i32(i32 noundef, i32 noundef) #0

; Function Attrs: alwaysinline mustprogress nounwind uwtable
declare i32 @min_i32(i32 noundef, i32 noundef) #0

; Function Attrs: alwaysinline mustprogress nounwind uwtable
declare double @rand_f64(%struct.RuntimeContext* noundef) #0

; Function Attrs: alwaysinline mustprogress nounwind uwtable
declare double @log_f64(double noundef) #0

; Function Attrs: nocallback nofree nosync nounwind readnone speculatable willreturn
declare double @llvm.sqrt.f64(double) #1

; Function Attrs: alwaysinline mustprogress nounwind uwtable
declare double @cos_f64(double noundef) #0

; Function Attrs: alwaysinline mustprogress nounwind uwtable
declare void @cpu_parallel_range_for(%struct.RuntimeContext* noundef, i32 noundef, i32 noundef, i32 noundef, i32 noundef, i32 noundef, void (%struct.RuntimeContext*, i8*)* noundef, void (%struct.RuntimeContext*, i8*, i32)* noundef, void (%struct.RuntimeContext*, i8*)* noundef, i64 noundef) #0

attributes #0 = { alwaysinline mustprogress nounwind uwtable "frame-pointer"="all" "min-legal-vector-width"="0" "no-trapping-math"="true" "stack-protector-buffer-size"="8" "target-cpu"="x86-64" "target-features"="+cx8,+fxsr,+mmx,+sse,+sse2,+x87" "tune-cpu"="generic" }
attributes #1 = { nocallback nofree nosync nounwind readnone speculatable willreturn }
