; Taichi's IR of task 1 of functions_float64_dynamic_forward of tests/kernels/whole.py for CUDA.
; ModuleID = 'kernel'
source_filename = "kernel"

%struct.RuntimeContext = type { i8*, %struct.LLVMRuntime*, i32, i64* }
%struct.LLVMRuntime = type { %struct.PreallocatedMemoryChunk, %struct.PreallocatedMemoryChunk, i8* (i8*, i64, i64)*, void (i8*)*, void (i8*, ...)*, i32 (i8*, i64, i8*, %struct.__va_list_tag*)*, i8*, [512 x i8*], [512 x i64], i8*, void (i8*, i32, i32, i8*, void (i8*, i32, i32)*)*, [1024 x %struct.ListManager*], [1024 x %struct.NodeManager*], [1024 x i8*], i8*, %struct.RandState*, i8*, void (i8*, i8*)*, void (i8*)*, [2048 x i8], [32 x i64], i32, i64, i8*, i32, i32, i64 }
%struct.PreallocatedMemoryChunk = type { i8*, i8*, i64 }
%struct.__va_list_tag = type { i32, i32, i8*, i8* }
%struct.ListManager = type { [131072 x i8*], i64, i64, i32, i32, i32, %struct.LLVMRuntime* }
%struct.NodeManager = type <{ %struct.LLVMRuntime*, i32, i32, i32, i32, %struct.ListManager*, %struct.ListManager*, %struct.ListManager*, i32, [4 x i8] }>
%struct.RandState = type { i32, i32, i32, i32, i32 }

define void @functions_c94_0_kernel_1_range_for(%struct.RuntimeContext* byval(%struct.RuntimeContext) %context) {
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
  %11 = bitcast i8** %10 to { { { i32 }, double* }, { { i32 }, double* } }**
  %12 = load { { { i32 }, double* }, { { i32 }, double* } }*, { { { i32 }, double* }, { { i32 }, double* } }** %11, align 8
  %13 = getelementptr { { { i32 }, double* }, { { i32 }, double* } }, { { { i32 }, double* }, { { i32 }, double* } }* %12, i32 0, i32 0
  %14 = getelementptr { { i32 }, double* }, { { i32 }, double* }* %13, i32 0, i32 1
  %15 = load double*, double** %14, align 8
  %16 = getelementptr { { i32 }, double* }, { { i32 }, double* }* %13, i32 0, i32 0, i32 0
  %17 = load i32, i32* %16, align 4
  %18 = mul i32 0, %17
  %19 = add i32 %18, %9
  %20 = getelementptr double, double* %15, i32 %19
  %21 = load double, double* %20, align 8
  %22 = call double @__nv_fabs(double %21)
  %23 = fadd double %22, 2.500000e-01
  %24 = call double @__nv_sqrt(double %23)
  %25 = call double @__nv_pow(double %23, double 1.500000e+00)
  %26 = fadd double %24, %25
  %27 = call double @__nv_atan2(double %21, double %23)
  %28 = fadd double %26, %27
  %29 = fadd double %23, 1.000000e+00
  %30 = fdiv double %21, %29
  %31 = call double @__nv_asin(double %30)
  %32 = fadd double %28, %31
  %33 = call double @__nv_acos(double %30)
  %34 = fadd double %32, %33
  %35 = call double @__nv_exp(double %21)
  %36 = fadd double %34, %35
  %37 = call double @__nv_log(double %23)
  %38 = fadd double %36, %37
  %39 = call double @__nv_tanh(double %21)
  %40 = fadd double %38, %39
  %41 = call double @llvm.maxnum.f64(double %21, double 1.250000e-01)
  %42 = call double @llvm.minnum.f64(double %21, double 2.500000e-01)
  %43 = fmul double %41, %42
  %44 = fadd double %40, %43
  %45 = call double @llvm.floor.f64(double %21)
  %46 = fmul double %45, 5.000000e-01
  %47 = fadd double %44, %46
  %48 = call double @llvm.ceil.f64(double %21)
  %49 = fadd double %47, %48
  %sqrt = call double @llvm.sqrt.f64(double %23)
  %50 = fdiv double 1.000000e+00, %sqrt
  %51 = fadd double %49, %50
  %52 = getelementptr %struct.RuntimeContext, %struct.RuntimeContext* %0, i32 0, i32 0
  %53 = bitcast i8** %52 to { { { i32 }, double* }, { { i32 }, double* } }**
  %54 = load { { { i32 }, double* }, { { i32 }, double* } }*, { { { i32 }, double* }, { { i32 }, double* } }** %53, align 8
  %55 = getelementptr { { { i32 }, double* }, { { i32 }, double* } }, { { { i32 }, double* }, { { i32 }, double* } }* %54, i32 0, i32 1
  %56 = getelementptr { { i32 }, double* }, { { i32 }, double* }* %55, i32 0, i32 1
  %57 = load double*, double** %56, align 8
  %58 = getelementptr { { i32 }, double* }, { { i32 }, double* }* %55, i32 0, i32 0, i32 0
  %59 = load i32, i32* %58, align 4
  %60 = mul i32 0, %59
  %61 = add i32 %60, %9
  %62 = getelementptr double, double* %57, i32 %61
  store double %51, double* %62, align 8
  br label %final
}

; Function Attrs: alwaysinline mustprogress nounwind uwtable
declare %struct.LLVMRuntime* @RuntimeContext_get_runtime(%struct.RuntimeContext* noundef) #0

; Function Attrs: alwaysinline mustprogress nounwind uwtable
declare i8* @get_temporary_pointer(%struct.LLVMRuntime* noundef, i64 noundef) #0

; Function Attrs: alwaysinline inlinehint
declare double @__nv_fabs(double) #1

; Function Attrs: alwaysinline inlinehint
declare double @__nv_sqrt(double) #1

; Function Attrs: alwaysinline inlinehint
declare double @__nv_pow(double, double) #1

; Function Attrs: alwaysinline inlinehint
declare double @__nv_atan2(double, double) #1

; Function Attrs: alwaysinline inlinehint
declare double @__nv_asin(double) #1

; Function Attrs: alwaysinline inlinehint
declare double @__nv_acos(double) #1

; Function Attrs: alwaysinline inlinehint
declare double @__nv_exp(double) #1

; Function Attrs: alwaysinline inlinehint
declare double @__nv_log(double) #1

; Function Attrs: alwaysinline inlinehint
declare double @__nv_tanh(double) #1

; Function Attrs: nocallback nofree nosync nounwind readnone speculatable willreturn
declare double @llvm.maxnum.f64(double, double) #2

; Function Attrs: nocallback nofree nosync nounwind readnone speculatable willreturn
declare double @llvm.minnum.f64(double, double) #2

; Function Attrs: nocallback nofree nosync nounwind readnone speculatable willreturn
declare double @llvm.floor.f64(double) #2

; Function Attrs: nocallback nofree nosync nounwind readnone speculatable willreturn
declare double @llvm.ceil.f64(double) #2

; Function Attrs: nocallback nofree nosync nounwind readnone speculatable willreturn
declare double @llvm.sqrt.f64(double) #2

; Function Attrs: alwaysinline mustprogress nounwind uwtable
declare void @gpu_parallel_range_for(%struct.RuntimeContext* noundef, i32 noundef, i32 noundef, void (%struct.RuntimeContext*, i8*)* noundef, void (%struct.RuntimeContext*, i8*, i32)* noundef, void (%struct.RuntimeContext*, i8*)* noundef, i64 noundef) #0

attributes #0 = { alwaysinline mustprogress nounwind uwtable "frame-pointer"="all" "min-legal-vector-width"="0" "no-trapping-math"="true" "stack-protector-buffer-size"="8" "target-cpu"="x86-64" "target-features"="+cx8,+fxsr,+mmx,+sse,+sse2,+x87" "tune-cpu"="generic" }
attributes #1 = { alwaysinline inlinehint }
attributes #2 = { nocallback nofree nosync nounwind readnone speculatable willreturn }
