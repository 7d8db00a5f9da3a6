; Taichi's IR of task 1 of stack8_float64_dynamic_vjp_x of tests/kernels/device.py for CUDA.
; ModuleID = 'kernel'
source_filename = "kernel"

%struct.RuntimeContext = type { i8*, %struct.LLVMRuntime*, i32, i64* }
%struct.LLVMRuntime = type { %struct.PreallocatedMemoryChunk, %struct.PreallocatedMemoryChunk, i8* (i8*, i64, i64)*, void (i8*)*, void (i8*, ...)*, i32 (i8*, i64, i8*, %struct.__va_list_tag*)*, i8*, [512 x i8*], [512 x i64], i8*, void (i8*, i32, i32, i8*, void (i8*, i32, i32)*)*, [1024 x %struct.ListManager*], [1024 x %struct.NodeManager*], [1024 x i8*], i8*, %struct.RandState*, i8*, void (i8*, i8*)*, void (i8*)*, [2048 x i8], [32 x i64], i32, i64, i8*, i32, i32, i64 }
%struct.PreallocatedMemoryChunk = type { i8*, i8*, i64 }
%struct.__va_list_tag = type { i32, i32, i8*, i8* }
%struct.ListManager = type { [131072 x i8*], i64, i64, i32, i32, i32, %struct.LLVMRuntime* }
%struct.NodeManager = type <{ %struct.LLVMRuntime*, i32, i32, i32, i32, %struct.ListManager*, %struct.ListManager*, %struct.ListManager*, i32, [4 x i8] }>
%struct.RandState = type { i32, i32, i32, i32, i32 }

define void @stack8_c105_0_reverse_grad_kernel_1_range_for(%struct.RuntimeContext* byval(%struct.RuntimeContext) %context) {
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
  %4 = alloca [516 x i8], align 8
  %5 = alloca [516 x i8], align 8
  %6 = alloca i32, align 4
  %7 = alloca i32, align 4
  br label %entry

final:                                            ; preds = %after_for3
  ret void

entry:                                            ; preds = %allocs
  br label %function_body

function_body:                                    ; preds = %entry
  store i32 %2, i32* %3, align 4
  %8 = bitcast [516 x i8]* %4 to i8*
  call void @stack_init(i8* %8)
  call void @stack_push(i8* %8, i64 32, i64 8)
  %9 = call i8* @stack_top_primal(i8* %8, i64 8)
  %10 = bitcast i8* %9 to double*
  store double 0.000000e+00, double* %10, align 8
  %11 = load i32, i32* %3, align 4
  %12 = call %struct.LLVMRuntime* @RuntimeContext_get_runtime(%struct.RuntimeContext* %0)
  %13 = call i8* @get_temporary_pointer(%struct.LLVMRuntime* %12, i64 0)
  %14 = bitcast i8* %13 to i32*
  %15 = load i32, i32* %14, align 4
  %16 = srem i32 %11, %15
  %17 = getelementptr %struct.RuntimeContext, %struct.RuntimeContext* %0, i32 0, i32 0
  %18 = bitcast i8** %17 to { { { i32 }, double*, double* }, { { i32 }, double*, double* } }**
  %19 = load { { { i32 }, double*, double* }, { { i32 }, double*, double* } }*, { { { i32 }, double*, double* }, { { i32 }, double*, double* } }** %18, align 8
  %20 = getelementptr { { { i32 }, double*, double* }, { { i32 }, double*, double* } }, { { { i32 }, double*, double* }, { { i32 }, double*, double* } }* %19, i32 0, i32 0
  %21 = getelementptr { { i32 }, double*, double* }, { { i32 }, double*, double* }* %20, i32 0, i32 1
  %22 = load double*, double** %21, align 8
  %23 = getelementptr { { i32 }, double*, double* }, { { i32 }, double*, double* }* %20, i32 0, i32 0, i32 0
  %24 = load i32, i32* %23, align 4
  %25 = mul i32 0, %24
  %26 = add i32 %25, %16
  %27 = getelementptr double, double* %22, i32 %26
  %28 = load double, double* %27, align 8
  %29 = bitcast [516 x i8]* %5 to i8*
  call void @stack_init(i8* %29)
  call void @stack_push(i8* %29, i64 32, i64 8)
  %30 = call i8* @stack_top_primal(i8* %29, i64 8)
  %31 = bitcast i8* %30 to double*
  store double 0.000000e+00, double* %31, align 8
  call void @stack_push(i8* %29, i64 32, i64 8)
  %32 = call i8* @stack_top_primal(i8* %29, i64 8)
  %33 = bitcast i8* %32 to double*
  store double %28, double* %33, align 8
  store i32 0, i32* %6, align 4
  br label %for_loop_test

for_loop_body:                                    ; preds = %for_loop_test
  %34 = call i8* @stack_top_primal(i8* %29, i64 8)
  %35 = bitcast i8* %34 to double*
  %36 = load double, double* %35, align 8
  %37 = call double @__nv_sin(double %36)
  %38 = load double, double* %27, align 8
  call void @stack_push(i8* %8, i64 32, i64 8)
  %39 = call i8* @stack_top_primal(i8* %8, i64 8)
  %40 = bitcast i8* %39 to double*
  store double %38, double* %40, align 8
  %41 = call i8* @stack_top_primal(i8* %8, i64 8)
  %42 = bitcast i8* %41 to double*
  %43 = load double, double* %42, align 8
  %44 = fmul double %43, %36
  %45 = fadd double %37, %44
  call void @stack_push(i8* %29, i64 32, i64 8)
  %46 = call i8* @stack_top_primal(i8* %29, i64 8)
  %47 = bitcast i8* %46 to double*
  store double %45, double* %47, align 8
  br label %for_loop_inc

for_loop_inc:                                     ; preds = %for_loop_body
  %48 = load i32, i32* %6, align 4
  %49 = add i32 %48, 1
  store i32 %49, i32* %6, align 4
  br label %for_loop_test

after_for:                                        ; preds = %for_loop_test
  %50 = getelementptr %struct.RuntimeContext, %struct.RuntimeContext* %0, i32 0, i32 0
  %51 = bitcast i8** %50 to { { { i32 }, double*, double* }, { { i32 }, double*, double* } }**
  %52 = load { { { i32 }, double*, double* }, { { i32 }, double*, double* } }*, { { { i32 }, double*, double* }, { { i32 }, double*, double* } }** %51, align 8
  %53 = getelementptr { { { i32 }, double*, double* }, { { i32 }, double*, double* } }, { { { i32 }, double*, double* }, { { i32 }, double*, double* } }* %52, i32 0, i32 1
  %54 = getelementptr { { i32 }, double*, double* }, { { i32 }, double*, double* }* %53, i32 0, i32 2
  %55 = load double*, double** %54, align 8
  %56 = getelementptr { { i32 }, double*, double* }, { { i32 }, double*, double* }* %53, i32 0, i32 0, i32 0
  %57 = load i32, i32* %56, align 4
  %58 = mul i32 0, %57
  %59 = add i32 %58, %16
  %60 = getelementptr double, double* %55, i32 %59
  %61 = load double, double* %60, align 8
  store double 0.000000e+00, double* %60, align 8
  %62 = call i8* @stack_top_adjoint(i8* %29, i64 8)
  %63 = bitcast i8* %62 to double*
  %64 = load double, double* %63, align 8
  %65 = fadd double %64, %61
  store double %65, double* %63, align 8
  %66 = getelementptr { { i32 }, double*, double* }, { { i32 }, double*, double* }* %20, i32 0, i32 2
  %67 = load double*, double** %66, align 8
  %68 = getelementptr { { i32 }, double*, double* }, { { i32 }, double*, double* }* %20, i32 0, i32 0, i32 0
  %69 = load i32, i32* %68, align 4
  %70 = mul i32 0, %69
  %71 = add i32 %70, %16
  %72 = getelementptr double, double* %67, i32 %71
  store i32 7, i32* %7, align 4
  br label %for_loop_test4

for_loop_test:                                    ; preds = %for_loop_inc, %function_body
  %73 = load i32, i32* %6, align 4
  %74 = icmp slt i32 %73, 8
  br i1 %74, label %for_loop_body, label %after_for

for_loop_body1:                                   ; preds = %for_loop_test4
  %75 = call i8* @stack_top_adjoint(i8* %29, i64 8)
  %76 = bitcast i8* %75 to double*
  %77 = load double, double* %76, align 8
  call void @stack_pop(i8* %29)
  %78 = call i8* @stack_top_primal(i8* %29, i64 8)
  %79 = bitcast i8* %78 to double*
  %80 = load double, double* %79, align 8
  %81 = fmul double %77, %80
  %82 = call i8* @stack_top_primal(i8* %8, i64 8)
  %83 = bitcast i8* %82 to double*
  %84 = load double, double* %83, align 8
  %85 = fmul double %77, %84
  %86 = call i8* @stack_top_adjoint(i8* %8, i64 8)
  %87 = bitcast i8* %86 to double*
  %88 = load double, double* %87, align 8
  %89 = fadd double %88, %81
  store double %89, double* %87, align 8
  %90 = call i8* @stack_top_adjoint(i8* %8, i64 8)
  %91 = bitcast i8* %90 to double*
  %92 = load double, double* %91, align 8
  call void @stack_pop(i8* %8)
  %93 = load double, double* %72, align 8
  %94 = fadd double %93, %92
  store double %94, double* %72, align 8
  %95 = call double @__nv_cos(double %80)
  %96 = fmul double %77, %95
  %97 = fadd double %85, %96
  %98 = call i8* @stack_top_adjoint(i8* %29, i64 8)
  %99 = bitcast i8* %98 to double*
  %100 = load double, double* %99, align 8
  %101 = fadd double %100, %97
  store double %101, double* %99, align 8
  br label %for_loop_inc2

for_loop_inc2:                                    ; preds = %for_loop_body1
  %102 = load i32, i32* %7, align 4
  %103 = add i32 %102, -1
  store i32 %103, i32* %7, align 4
  br label %for_loop_test4

after_for3:                                       ; preds = %for_loop_test4
  %104 = call i8* @stack_top_adjoint(i8* %29, i64 8)
  %105 = bitcast i8* %104 to double*
  %106 = load double, double* %105, align 8
  %107 = load double, double* %72, align 8
  %108 = fadd double %107, %106
  store double %108, double* %72, align 8
  br label %final

for_loop_test4:                                   ; preds = %for_loop_inc2, %after_for
  %109 = load i32, i32* %7, align 4
  %110 = icmp sge i32 %109, 0
  br i1 %110, label %for_loop_body1, label %after_for3
}

; Function Attrs: alwaysinline mustprogress nounwind uwtable
declare void @stack_init(i8* noundef) #0

; Function Attrs: alwaysinline mustprogress nounwind uwtable
declare void @stack_push(i8* noundef, i64 noundef, i64 noundef) #0

; Function Attrs: alwaysinline mustprogress nounwind uwtable
declare i8* @stack_top_primal(i8* noundef, i64 noundef) #0

; Function Attrs: alwaysinline mustprogress nounwind uwtable
declare %struct.LLVMRuntime* @RuntimeContext_get_runtime(%struct.RuntimeContext* noundef) #0

; Function Attrs: alwaysinline mustprogress nounwind uwtable
declare i8* @get_temporary_pointer(%struct.LLVMRuntime* noundef, i64 noundef) #0

; Function Attrs: alwaysinline inlinehint
declare double @__nv_sin(double) #1

; Function Attrs: alwaysinline mustprogress nounwind uwtable
declare i8* @stack_top_adjoint(i8* noundef, i64 noundef) #0

; Function Attrs: alwaysinline mustprogress nounwind uwtable
declare void @stack_pop(i8* noundef) #0

; Function Attrs: alwaysinline inlinehint
declare double @__nv_cos(double) #1

; Function Attrs: alwaysinline mustprogress nounwind uwtable
declare void @gpu_parallel_range_for(%struct.RuntimeContext* noundef, i32 noundef, i32 noundef, void (%struct.RuntimeContext*, i8*)* noundef, void (%struct.RuntimeContext*, i8*, i32)* noundef, void (%struct.RuntimeContext*, i8*)* noundef, i64 noundef) #0

attributes #0 = { alwaysinline mustprogress nounwind uwtable "frame-pointer"="all" "min-legal-vector-width"="0" "no-trapping-math"="true" "stack-protector-buffer-size"="8" "target-cpu"="x86-64" "target-features"="+cx8,+fxsr,+mmx,+sse,+sse2,+x87" "tune-cpu"="generic" }
attributes #1 = { alwaysinline inlinehint }
