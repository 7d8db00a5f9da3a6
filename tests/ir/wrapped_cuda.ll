; Taichi's IR of task 0 of wrapped_float32_n1_forward of tests/kernels/various.py for CUDA.
; ModuleID = 'kernel'
source_filename = "kernel"

%struct.RuntimeContext = type { i8*, %struct.LLVMRuntime*, i32, i64* }
%struct.LLVMRuntime = type { %struct.PreallocatedMemoryChunk, %struct.PreallocatedMemoryChunk, i8* (i8*, i64, i64)*, void (i8*)*, void (i8*, ...)*, i32 (i8*, i64, i8*, %struct.__va_list_tag*)*, i8*, [512 x i8*], [512 x i64], i8*, void (i8*, i32, i32, i8*, void (i8*, i32, i32)*)*, [1024 x %struct.ListManager*], [1024 x %struct.NodeManager*], [1024 x i8*], i8*, %struct.RandState*, i8*, void (i8*, i8*)*, void (i8*)*, [2048 x i8], [32 x i64], i32, i64, i8*, i32, i32, i64 }
%struct.PreallocatedMemoryChunk = type { i8*, i8*, i64 }
%struct.__va_list_tag = type { i32, i32, i8*, i8* }
%struct.ListManager = type { [131072 x i8*], i64, i64, i32, i32, i32, %struct.LLVMRuntime* }
%struct.NodeManager = type <{ %struct.LLVMRuntime*, i32, i32, i32, i32, %struct.ListManager*, %struct.ListManager*, %struct.ListManager*, i32, [4 x i8] }>
%struct.RandState = type { i32, i32, i32, i32, i32 }

define void @forward_c94_0_kernel_0_serial(%struct.RuntimeContext* byval(%struct.RuntimeContext) %context) {
entry:
  %0 = alloca i32, align 4
  br label %body

final:                                            ; preds = %after_for
  ret void

body:                                             ; preds = %entry
  %1 = getelementptr %struct.RuntimeContext, %struct.RuntimeContext* %context, i32 0, i32 0
  %2 = bitcast i8** %1 to { { { i32, i32 }, float* }, { { i32, i32 }, float* } }**
  %3 = load { { { i32, i32 }, float* }, { { i32, i32 }, float* } }*, { { { i32, i32 }, float* }, { { i32, i32 }, float* } }** %2, align 8
  %4 = getelementptr { { { i32, i32 }, float* }, { { i32, i32 }, float* } }, { { { i32, i32 }, float* }, { { i32, i32 }, float* } }* %3, i32 0, i32 1, i32 0, i32 0
  %5 = load i32, i32* %4, align 4
  store i32 0, i32* %0, align 4
  br label %for_loop_test

for_loop_body:                                    ; preds = %for_loop_test
  %6 = load i32, i32* %0, align 4
  %7 = getelementptr %struct.RuntimeContext, %struct.RuntimeContext* %context, i32 0, i32 0
  %8 = bitcast i8** %7 to { { { i32, i32 }, float* }, { { i32, i32 }, float* } }**
  %9 = load { { { i32, i32 }, float* }, { { i32, i32 }, float* } }*, { { { i32, i32 }, float* }, { { i32, i32 }, float* } }** %8, align 8
  %10 = getelementptr { { { i32, i32 }, float* }, { { i32, i32 }, float* } }, { { { i32, i32 }, float* }, { { i32, i32 }, float* } }* %9, i32 0, i32 0
  %11 = getelementptr { { i32, i32 }, float* }, { { i32, i32 }, float* }* %10, i32 0, i32 1
  %12 = load float*, float** %11, align 8
  %13 = getelementptr { { i32, i32 }, float* }, { { i32, i32 }, float* }* %10, i32 0, i32 0, i32 0
  %14 = load i32, i32* %13, align 4
  %15 = getelementptr { { i32, i32 }, float* }, { { i32, i32 }, float* }* %10, i32 0, i32 0, i32 1
  %16 = load i32, i32* %15, align 4
  %17 = mul i32 0, %14
  %18 = add i32 %17, %6
  %19 = mul i32 %18, %16
  %20 = add i32 %19, 0
  %21 = getelementptr float, float* %12, i32 %20
  %22 = load float, float* %21, align 4
  %23 = fptosi float %22 to i32
  %24 = mul i32 %23, 1664525
  %25 = add i32 %24, 1013904223
  %26 = mul i32 %25, %25
  %27 = ashr i32 %26, 8
  %28 = sitofp i32 %27 to float
  %29 = fadd float %28, %22
  %30 = getelementptr %struct.RuntimeContext, %struct.RuntimeContext* %context, i32 0, i32 0
  %31 = bitcast i8** %30 to { { { i32, i32 }, float* }, { { i32, i32 }, float* } }**
  %32 = load { { { i32, i32 }, float* }, { { i32, i32 }, float* } }*, { { { i32, i32 }, float* }, { { i32, i32 }, float* } }** %31, align 8
  %33 = getelementptr { { { i32, i32 }, float* }, { { i32, i32 }, float* } }, { { { i32, i32 }, float* }, { { i32, i32 }, float* } }* %32, i32 0, i32 1
  %34 = getelementptr { { i32, i32 }, float* }, { { i32, i32 }, float* }* %33, i32 0, i32 1
  %35 = load float*, float** %34, align 8
  %36 = getelementptr { { i32, i32 }, float* }, { { i32, i32 }, float* }* %33, i32 0, i32 0, i32 0
  %37 = load i32, i32* %36, align 4
  %38 = getelementptr { { i32, i32 }, float* }, { { i32, i32 }, float* }* %33, i32 0, i32 0, i32 1
  %39 = load i32, i32* %38, align 4
  %40 = mul i32 0, %37
  %41 = add i32 %40, %6
  %42 = mul i32 %41, %39
  %43 = add i32 %42, 0
  %44 = getelementptr float, float* %35, i32 %43
  store float %29, float* %44, align 4
  br label %for_loop_inc

for_loop_inc:                                     ; preds = %for_loop_body
  %45 = load i32, i32* %0, align 4
  %46 = add i32 %45, 1
  store i32 %46, i32* %0, align 4
  br label %for_loop_test

after_for:                                        ; preds = %for_loop_test
  br label %final

for_loop_test:                                    ; preds = %for_loop_inc, %body
  %47 = load i32, i32* %0, align 4
  %48 = icmp slt i32 %47, %5
  br i1 %48, label %for_loop_body, label %after_for
}
