; Taichi's IR of task 1 of charge_float64_dynamic_forward of tests/kernels/fields.py for the CPU.
; ModuleID = 'kernel'
source_filename = "kernel"
target datalayout = "e-m:e-p270:32:32-p271:32:32-p272:64:64-i64:64-f80:128-n8:16:32:64-S128"

%0 = type { [4 x i64], [4 x i8*] }
%struct.RuntimeContext = type { i8*, %struct.LLVMRuntime*, i32, i64* }
%struct.LLVMRuntime = type { %struct.PreallocatedMemoryChunk, %struct.PreallocatedMemoryChunk, i8* (i8*, i64, i64)*, void (i8*)*, void (i8*, ...)*, i32 (i8*, i64, i8*, %struct.__va_list_tag*)*, i8*, [512 x i8*], [512 x i64], i8*, void (i8*, i32, i32, i8*, void (i8*, i32, i32)*)*, [1024 x %struct.ListManager*], [1024 x %struct.NodeManager*], [1024 x i8*], i8*, %struct.RandState*, i8*, void (i8*, i8*)*, void (i8*)*, [2048 x i8], [32 x i64], i32, i64, i8*, i32, i32, i64 }
%struct.PreallocatedMemoryChunk = type { i8*, i8*, i64 }
%struct.__va_list_tag = type { i32, i32, i8*, i8* }
%struct.ListManager = type { [131072 x i8*], i64, i64, i32, i32, i32, %struct.LLVMRuntime* }
%struct.NodeManager = type <{ %struct.LLVMRuntime*, i32, i32, i32, i32, %struct.ListManager*, %struct.ListManager*, %struct.ListManager*, i32, [4 x i8] }>
%struct.RandState = type { i32, i32, i32, i32, i32 }
%struct.DenseMeta = type <{ %struct.StructMeta, i32, [4 x i8] }>
%struct.StructMeta = type { i32, i64, i64, i8* (i8*, i8*, i32)*, i8* (i8*)*, i1 (i8*, i8*, i32)*, i32 (i8*, i8*)*, void (%struct.PhysicalCoordinates*, %struct.PhysicalCoordinates*, i32)*, %struct.RuntimeContext* }
%struct.PhysicalCoordinates = type { [12 x i32] }
%S0_ch = type { [2400 x %S1_ch], [2400 x %S3_ch], [600 x %S5_ch], [600 x %S7_ch], [1 x %S9_ch], [1 x %S11_ch], [1 x %S13_ch], [1 x %S15_ch], [600 x %S17_ch], [600 x %S23_ch], [81 x %S28_ch], [81 x %S30_ch], [5 x %S32_ch], [5 x %S34_ch], [5 x %S36_ch], [5 x %S38_ch], [5 x %S40_ch], [5 x %S42_ch], [5 x %S44_ch], [5 x %S46_ch], [5 x %S48_ch], [5 x %S50_ch], [5 x %S52_ch], [5 x %S54_ch], [7 x %S56_ch], [35 x %S61_ch], [35 x %S63_ch], [105 x %S65_ch], [105 x %S67_ch], [105 x %S69_ch], [105 x %S71_ch], [64 x %S73_ch], [64 x %S75_ch], [4 x %S77_ch], [3 x %S83_ch], [600 x %S85_ch], [1000 x %S87_ch], %0, [40 x %S92_ch], [40 x %S94_ch], [1 x %S96_ch], [1 x %S99_ch] }
%S1_ch = type { double }
%S3_ch = type { double }
%S5_ch = type { double }
%S7_ch = type { double }
%S9_ch = type { double }
%S11_ch = type { double }
%S13_ch = type { double }
%S15_ch = type { double }
%S17_ch = type { double, double, double, double, float, float }
%S23_ch = type { double, double, double, double }
%S28_ch = type { double }
%S30_ch = type { double }
%S32_ch = type { float }
%S34_ch = type { float }
%S36_ch = type { float }
%S38_ch = type { float }
%S40_ch = type { float }
%S42_ch = type { float }
%S44_ch = type { float }
%S46_ch = type { float }
%S48_ch = type { float }
%S50_ch = type { float }
%S52_ch = type { float }
%S54_ch = type { float }
%S56_ch = type { [5 x %S57_ch] }
%S57_ch = type { float, float }
%S61_ch = type { float }
%S63_ch = type { float }
%S65_ch = type { double }
%S67_ch = type { double }
%S69_ch = type { double }
%S71_ch = type { double }
%S73_ch = type { double }
%S75_ch = type { double }
%S77_ch = type { double, i8, double, double, double }
%S83_ch = type { i64 }
%S85_ch = type { i32 }
%S87_ch = type { float }
%S92_ch = type { double }
%S94_ch = type { double }
%S96_ch = type { double, double }
%S99_ch = type { double, double }

define void @charge_c90_0_kernel_1_range_for(%struct.RuntimeContext* %context) {
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
  %5 = alloca %struct.DenseMeta, align 8
  br label %entry

final:                                            ; preds = %after_for
  ret void

entry:                                            ; preds = %allocs
  br label %function_body

function_body:                                    ; preds = %entry
  store i32 %2, i32* %3, align 4
  %6 = load i32, i32* %3, align 4
  %7 = shl i32 %6, 9
  %8 = add i32 %7, 512
  %9 = call i32 @min_i32(i32 3, i32 %8)
  store i32 %7, i32* %4, align 4
  br label %for_loop_test

for_loop_body:                                    ; preds = %for_loop_test
  %10 = load i32, i32* %4, align 4
  %11 = add i32 %10, 33
  %12 = sext i32 %11 to i64
  %13 = shl i64 1, %12
  %14 = call %struct.LLVMRuntime* @RuntimeContext_get_runtime(%struct.RuntimeContext* %0)
  %15 = call i8* @LLVMRuntime_get_roots(%struct.LLVMRuntime* %14, i32 0)
  %16 = bitcast i8* %15 to %S0_ch*
  %17 = getelementptr %S0_ch, %S0_ch* %16, i32 0
  %18 = bitcast %S0_ch* %17 to i8*
  %19 = call i8* @get_ch_S0_to_S83(i8* %18)
  %20 = bitcast i8* %19 to [3 x %S83_ch]*
  %21 = bitcast %struct.DenseMeta* %5 to %struct.StructMeta*
  call void @StructMeta_set_snode_id(%struct.StructMeta* %21, i32 83)
  call void @StructMeta_set_element_size(%struct.StructMeta* %21, i64 8)
  call void @StructMeta_set_max_num_elements(%struct.StructMeta* %21, i64 3)
  call void @StructMeta_set_context(%struct.StructMeta* %21, %struct.RuntimeContext* %0)
  call void @StructMeta_set_lookup_element(%struct.StructMeta* %21, i8* (i8*, i8*, i32)* @Dense_lookup_element)
  call void @StructMeta_set_is_active(%struct.StructMeta* %21, i1 (i8*, i8*, i32)* @Dense_is_active)
  call void @StructMeta_set_get_num_elements(%struct.StructMeta* %21, i32 (i8*, i8*)* @Dense_get_num_elements)
  call void @StructMeta_set_from_parent_element(%struct.StructMeta* %21, i8* (i8*)* @get_ch_S0_to_S83)
  call void @StructMeta_set_refine_coordinates(%struct.StructMeta* %21, void (%struct.PhysicalCoordinates*, %struct.PhysicalCoordinates*, i32)* @S83_refine_coordinates)
  call void @DenseMeta_set_morton_dim(%struct.DenseMeta* %5, i32 0)
  %22 = bitcast %struct.DenseMeta* %5 to i8*
  %23 = bitcast [3 x %S83_ch]* %20 to i8*
  %24 = call i8* @Dense_lookup_element(i8* %22, i8* %23, i32 %10)
  %25 = call i8* @get_ch_S83_to_S84(i8* %24)
  %26 = bitcast i8* %25 to i64*
  %27 = load i64, i64* %26, align 8
  %28 = add i64 %27, %13
  store i64 %28, i64* %26, align 8
  br label %for_loop_inc

for_loop_inc:                                     ; preds = %for_loop_body
  %29 = load i32, i32* %4, align 4
  %30 = add i32 %29, 1
  store i32 %30, i32* %4, align 4
  br label %for_loop_test

after_for:                                        ; preds = %for_loop_test
  br label %final

for_loop_test:                                    ; preds = %for_loop_inc, %function_body
  %31 = load i32, i32* %4, align 4
  %32 = icmp slt i32 %31, %9
  br i1 %32, label %for_loop_body, label %after_for
}

; Function Attrs: alwaysinline mustprogress nounwind uwtable
declare i32 @min_i32(i32 noundef, i32 noundef) #0

; Function Attrs: alwaysinline mustprogress nounwind uwtable
declare %struct.LLVMRuntime* @RuntimeContext_get_runtime(%struct.RuntimeContext* noundef) #0

; Function Attrs: alwaysinline mustprogress nounwind uwtable
declare i8* @LLVMRuntime_get_roots(%struct.LLVMRuntime* noundef, i32 noundef) #0

declare i8* @get_ch_S0_to_S83(i8*)

; Function Attrs: alwaysinline mustprogress nounwind uwtable
declare void @StructMeta_set_snode_id(%struct.StructMeta* noundef, i32 noundef) #0

; Function Attrs: alwaysinline mustprogress nounwind uwtable
declare void @StructMeta_set_element_size(%struct.StructMeta* noundef, i64 noundef) #0

; Function Attrs: alwaysinline mustprogress nounwind uwtable
declare void @StructMeta_set_max_num_elements(%struct.StructMeta* noundef, i64 noundef) #0

; Function Attrs: alwaysinline mustprogress nounwind uwtable
declare void @StructMeta_set_context(%struct.StructMeta* noundef, %struct.RuntimeContext* noundef) #0

; Function Attrs: alwaysinline mustprogress nounwind uwtable
declare i8* @Dense_lookup_element(i8* noundef, i8* noundef, i32 noundef) #0

; Function Attrs: alwaysinline mustprogress nounwind uwtable
declare void @StructMeta_set_lookup_element(%struct.StructMeta* noundef, i8* (i8*, i8*, i32)* noundef) #0

; Function Attrs: alwaysinline mustprogress nounwind uwtable
declare zeroext i1 @Dense_is_active(i8* noundef, i8* noundef, i32 noundef) #0

; Function Attrs: alwaysinline mustprogress nounwind uwtable
declare void @StructMeta_set_is_active(%struct.StructMeta* noundef, i1 (i8*, i8*, i32)* noundef) #0

; Function Attrs: alwaysinline mustprogress nounwind uwtable
declare i32 @Dense_get_num_elements(i8* noundef, i8* noundef) #0

; Function Attrs: alwaysinline mustprogress nounwind uwtable
declare void @StructMeta_set_get_num_elements(%struct.StructMeta* noundef, i32 (i8*, i8*)* noundef) #0

; Function Attrs: alwaysinline mustprogress nounwind uwtable
declare void @StructMeta_set_from_parent_element(%struct.StructMeta* noundef, i8* (i8*)* noundef) #0

declare void @S83_refine_coordinates(%struct.PhysicalCoordinates*, %struct.PhysicalCoordinates*, i32)

; Function Attrs: alwaysinline mustprogress nounwind uwtable
declare void @StructMeta_set_refine_coordinates(%struct.StructMeta* noundef, void (%struct.PhysicalCoordinates*, %struct.PhysicalCoordinates*, i32)* noundef) #0

; Function Attrs: alwaysinline mustprogress nounwind uwtable
declare void @DenseMeta_set_morton_dim(%struct.DenseMeta* noundef, i32 noundef) #0

declare i8* @get_ch_S83_to_S84(i8*)

; Function Attrs: alwaysinline mustprogress nounwind uwtable
declare void @cpu_parallel_range_for(%struct.RuntimeContext* noundef, i32 noundef, i32 noundef, i32 noundef, i32 noundef, i32 noundef, void (%struct.RuntimeContext*, i8*)* noundef, void (%struct.RuntimeContext*, i8*, i32)* noundef, void (%struct.RuntimeContext*, i8*)* noundef, i64 noundef) #0

attributes #0 = { alwaysinline mustprogress nounwind uwtable "frame-pointer"="all" "min-legal-vector-width"="0" "no-trapping-math"="true" "stack-protector-buffer-size"="8" "target-cpu"="x86-64" "target-features"="+cx8,+fxsr,+mmx,+sse,+sse2,+x87" "tune-cpu"="generic" }
