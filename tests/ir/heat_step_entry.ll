; What LLVM is given for the entry heat_step_float64_dynamic_forward of examples/kernels/physics.py.
%struct.RuntimeContext = type { i8*, %struct.LLVMRuntime*, i32, i64* }
%struct.LLVMRuntime = type { %struct.PreallocatedMemoryChunk, %struct.PreallocatedMemoryChunk, i8* (i8*, i64, i64)*, void (i8*)*, void (i8*, ...)*, i32 (i8*, i64, i8*, %struct.__va_list_tag*)*, i8*, [512 x i8*], [512 x i64], i8*, void (i8*, i32, i32, i8*, void (i8*, i32, i32)*)*, [1024 x %struct.ListManager*], [1024 x %struct.NodeManager*], [1024 x i8*], i8*, %struct.RandState*, i8*, void (i8*, i8*)*, void (i8*)*, [2048 x i8], [32 x i64], i32, i64, i8*, i32, i32, i64 }
%struct.PreallocatedMemoryChunk = type { i8*, i8*, i64 }
%struct.__va_list_tag = type { i32, i32, i8*, i8* }
%struct.ListManager = type { [131072 x i8*], i64, i64, i32, i32, i32, %struct.LLVMRuntime* }
%struct.NodeManager = type <{ %struct.LLVMRuntime*, i32, i32, i32, i32, %struct.ListManager*, %struct.ListManager*, %struct.ListManager*, i32, [4 x i8] }>
%struct.RandState = type { i32, i32, i32, i32, i32 }
%tiaot.frame = type { i8*, i64, i32*, i8* }
%tiaot.stack = type { i32*, [26 x i8*] }
%tiaot.host = type { void (i8*, i64, void (i8*, i64)*, i8*)*, i8* }
define internal void @heat_step_float64_dynamic_forward_v3.task_0.piece.run(i8* noalias %input_u, i8* noalias %input_rate, i8* noalias %output_w, i64 %dim_r, i64 %dim_c, i8* %temporaries, i8* %failed, i8* %locals, i64 %index) noinline {
  %context = alloca %struct.RuntimeContext
  %v0 = alloca { { { i32, i32 }, double* }, double, { { i32, i32 }, double* } }
  %v1 = bitcast i8* %failed to i32*
  %v2 = alloca %tiaot.frame
  %v3 = getelementptr %tiaot.frame, %tiaot.frame* %v2, i32 0, i32 0
  store i8* %temporaries, i8** %v3
  %v4 = getelementptr %tiaot.frame, %tiaot.frame* %v2, i32 0, i32 1
  store i64 0, i64* %v4
  %v5 = getelementptr %tiaot.frame, %tiaot.frame* %v2, i32 0, i32 2
  store i32* %v1, i32** %v5
  %v6 = getelementptr %tiaot.frame, %tiaot.frame* %v2, i32 0, i32 3
  store i8* null, i8** %v6
  %v7 = bitcast %tiaot.frame* %v2 to %struct.LLVMRuntime*
  %v8 = bitcast { { { i32, i32 }, double* }, double, { { i32, i32 }, double* } }* %v0 to i8*
  %v9 = getelementptr %struct.RuntimeContext, %struct.RuntimeContext* %context, i32 0, i32 0
  store i8* %v8, i8** %v9
  %v10 = getelementptr %struct.RuntimeContext, %struct.RuntimeContext* %context, i32 0, i32 1
  store %struct.LLVMRuntime* %v7, %struct.LLVMRuntime** %v10
  %v11 = trunc i64 %dim_r to i32
  %v12 = getelementptr { { { i32, i32 }, double* }, double, { { i32, i32 }, double* } }, { { { i32, i32 }, double* }, double, { { i32, i32 }, double* } }* %v0, i32 0, i32 0, i32 0, i32 0
  store i32 %v11, i32* %v12
  %v13 = trunc i64 %dim_c to i32
  %v14 = getelementptr { { { i32, i32 }, double* }, double, { { i32, i32 }, double* } }, { { { i32, i32 }, double* }, double, { { i32, i32 }, double* } }* %v0, i32 0, i32 0, i32 0, i32 1
  store i32 %v13, i32* %v14
  %v15 = bitcast i8* %input_u to double*
  %v16 = getelementptr { { { i32, i32 }, double* }, double, { { i32, i32 }, double* } }, { { { i32, i32 }, double* }, double, { { i32, i32 }, double* } }* %v0, i32 0, i32 0, i32 1
  store double* %v15, double** %v16
  %v17 = bitcast i8* %input_rate to double*
  %v18 = getelementptr double, double* %v17, i64 0
  %v19 = load double, double* %v18
  %v20 = getelementptr { { { i32, i32 }, double* }, double, { { i32, i32 }, double* } }, { { { i32, i32 }, double* }, double, { { i32, i32 }, double* } }* %v0, i32 0, i32 1
  store double %v19, double* %v20
  %v21 = trunc i64 %dim_r to i32
  %v22 = getelementptr { { { i32, i32 }, double* }, double, { { i32, i32 }, double* } }, { { { i32, i32 }, double* }, double, { { i32, i32 }, double* } }* %v0, i32 0, i32 2, i32 0, i32 0
  store i32 %v21, i32* %v22
  %v23 = trunc i64 %dim_c to i32
  %v24 = getelementptr { { { i32, i32 }, double* }, double, { { i32, i32 }, double* } }, { { { i32, i32 }, double* }, double, { { i32, i32 }, double* } }* %v0, i32 0, i32 2, i32 0, i32 1
  store i32 %v23, i32* %v24
  %v25 = bitcast i8* %output_w to double*
  %v26 = getelementptr { { { i32, i32 }, double* }, double, { { i32, i32 }, double* } }, { { { i32, i32 }, double* }, double, { { i32, i32 }, double* } }* %v0, i32 0, i32 2, i32 1
  store double* %v25, double** %v26
  call void @task_0_body(%struct.RuntimeContext* %context)
  ret void
}
define internal void @heat_step_float64_dynamic_forward_v3.task_0.piece(i8* %record, i64 %index) {
  %v0 = bitcast i8* %record to [8 x i64]*
  %v1 = getelementptr [8 x i64], [8 x i64]* %v0, i64 0, i64 0
  %v2 = load i64, i64* %v1
  %v3 = inttoptr i64 %v2 to i8*
  %v4 = getelementptr [8 x i64], [8 x i64]* %v0, i64 0, i64 1
  %v5 = load i64, i64* %v4
  %v6 = inttoptr i64 %v5 to i8*
  %v7 = getelementptr [8 x i64], [8 x i64]* %v0, i64 0, i64 2
  %v8 = load i64, i64* %v7
  %v9 = inttoptr i64 %v8 to i8*
  %v10 = getelementptr [8 x i64], [8 x i64]* %v0, i64 0, i64 3
  %v11 = load i64, i64* %v10
  %v12 = getelementptr [8 x i64], [8 x i64]* %v0, i64 0, i64 4
  %v13 = load i64, i64* %v12
  %v14 = getelementptr [8 x i64], [8 x i64]* %v0, i64 0, i64 5
  %v15 = load i64, i64* %v14
  %v16 = inttoptr i64 %v15 to i8*
  %v17 = getelementptr [8 x i64], [8 x i64]* %v0, i64 0, i64 6
  %v18 = load i64, i64* %v17
  %v19 = inttoptr i64 %v18 to i8*
  %v20 = getelementptr [8 x i64], [8 x i64]* %v0, i64 0, i64 7
  %v21 = load i64, i64* %v20
  %v22 = inttoptr i64 %v21 to i8*
  call void @heat_step_float64_dynamic_forward_v3.task_0.piece.run(i8* %v3, i8* %v6, i8* %v9, i64 %v11, i64 %v13, i8* %v16, i8* %v19, i8* %v22, i64 %index)
  ret void
}
define internal void @heat_step_float64_dynamic_forward_v3.task_1.piece.run(i8* noalias %input_u, i8* noalias %input_rate, i8* noalias %output_w, i64 %dim_r, i64 %dim_c, i8* %temporaries, i8* %failed, i8* %locals, i64 %index) noinline {
  %context = alloca %struct.RuntimeContext
  %v0 = alloca { { { i32, i32 }, double* }, double, { { i32, i32 }, double* } }
  %v1 = bitcast i8* %failed to i32*
  %v2 = alloca %tiaot.frame
  %v3 = getelementptr %tiaot.frame, %tiaot.frame* %v2, i32 0, i32 0
  store i8* %temporaries, i8** %v3
  %v4 = getelementptr %tiaot.frame, %tiaot.frame* %v2, i32 0, i32 1
  store i64 0, i64* %v4
  %v5 = getelementptr %tiaot.frame, %tiaot.frame* %v2, i32 0, i32 2
  store i32* %v1, i32** %v5
  %v6 = getelementptr %tiaot.frame, %tiaot.frame* %v2, i32 0, i32 3
  store i8* null, i8** %v6
  %v7 = bitcast %tiaot.frame* %v2 to %struct.LLVMRuntime*
  %v8 = bitcast { { { i32, i32 }, double* }, double, { { i32, i32 }, double* } }* %v0 to i8*
  %v9 = getelementptr %struct.RuntimeContext, %struct.RuntimeContext* %context, i32 0, i32 0
  store i8* %v8, i8** %v9
  %v10 = getelementptr %struct.RuntimeContext, %struct.RuntimeContext* %context, i32 0, i32 1
  store %struct.LLVMRuntime* %v7, %struct.LLVMRuntime** %v10
  %v11 = trunc i64 %dim_r to i32
  %v12 = getelementptr { { { i32, i32 }, double* }, double, { { i32, i32 }, double* } }, { { { i32, i32 }, double* }, double, { { i32, i32 }, double* } }* %v0, i32 0, i32 0, i32 0, i32 0
  store i32 %v11, i32* %v12
  %v13 = trunc i64 %dim_c to i32
  %v14 = getelementptr { { { i32, i32 }, double* }, double, { { i32, i32 }, double* } }, { { { i32, i32 }, double* }, double, { { i32, i32 }, double* } }* %v0, i32 0, i32 0, i32 0, i32 1
  store i32 %v13, i32* %v14
  %v15 = bitcast i8* %input_u to double*
  %v16 = getelementptr { { { i32, i32 }, double* }, double, { { i32, i32 }, double* } }, { { { i32, i32 }, double* }, double, { { i32, i32 }, double* } }* %v0, i32 0, i32 0, i32 1
  store double* %v15, double** %v16
  %v17 = bitcast i8* %input_rate to double*
  %v18 = getelementptr double, double* %v17, i64 0
  %v19 = load double, double* %v18
  %v20 = getelementptr { { { i32, i32 }, double* }, double, { { i32, i32 }, double* } }, { { { i32, i32 }, double* }, double, { { i32, i32 }, double* } }* %v0, i32 0, i32 1
  store double %v19, double* %v20
  %v21 = trunc i64 %dim_r to i32
  %v22 = getelementptr { { { i32, i32 }, double* }, double, { { i32, i32 }, double* } }, { { { i32, i32 }, double* }, double, { { i32, i32 }, double* } }* %v0, i32 0, i32 2, i32 0, i32 0
  store i32 %v21, i32* %v22
  %v23 = trunc i64 %dim_c to i32
  %v24 = getelementptr { { { i32, i32 }, double* }, double, { { i32, i32 }, double* } }, { { { i32, i32 }, double* }, double, { { i32, i32 }, double* } }* %v0, i32 0, i32 2, i32 0, i32 1
  store i32 %v23, i32* %v24
  %v25 = bitcast i8* %output_w to double*
  %v26 = getelementptr { { { i32, i32 }, double* }, double, { { i32, i32 }, double* } }, { { { i32, i32 }, double* }, double, { { i32, i32 }, double* } }* %v0, i32 0, i32 2, i32 1
  store double* %v25, double** %v26
  %piece = trunc i64 %index to i32
  %v27 = mul i64 %index, 64
  %local = getelementptr i8, i8* %locals, i64 %v27
  call void @task_1_body(%struct.RuntimeContext* %context, i8* %local, i32 %piece)
  ret void
}
define internal void @heat_step_float64_dynamic_forward_v3.task_1.piece(i8* %record, i64 %index) {
  %v0 = bitcast i8* %record to [8 x i64]*
  %v1 = getelementptr [8 x i64], [8 x i64]* %v0, i64 0, i64 0
  %v2 = load i64, i64* %v1
  %v3 = inttoptr i64 %v2 to i8*
  %v4 = getelementptr [8 x i64], [8 x i64]* %v0, i64 0, i64 1
  %v5 = load i64, i64* %v4
  %v6 = inttoptr i64 %v5 to i8*
  %v7 = getelementptr [8 x i64], [8 x i64]* %v0, i64 0, i64 2
  %v8 = load i64, i64* %v7
  %v9 = inttoptr i64 %v8 to i8*
  %v10 = getelementptr [8 x i64], [8 x i64]* %v0, i64 0, i64 3
  %v11 = load i64, i64* %v10
  %v12 = getelementptr [8 x i64], [8 x i64]* %v0, i64 0, i64 4
  %v13 = load i64, i64* %v12
  %v14 = getelementptr [8 x i64], [8 x i64]* %v0, i64 0, i64 5
  %v15 = load i64, i64* %v14
  %v16 = inttoptr i64 %v15 to i8*
  %v17 = getelementptr [8 x i64], [8 x i64]* %v0, i64 0, i64 6
  %v18 = load i64, i64* %v17
  %v19 = inttoptr i64 %v18 to i8*
  %v20 = getelementptr [8 x i64], [8 x i64]* %v0, i64 0, i64 7
  %v21 = load i64, i64* %v20
  %v22 = inttoptr i64 %v21 to i8*
  call void @heat_step_float64_dynamic_forward_v3.task_1.piece.run(i8* %v3, i8* %v6, i8* %v9, i64 %v11, i64 %v13, i8* %v16, i8* %v19, i8* %v22, i64 %index)
  ret void
}
define internal void @task_0_body(%struct.RuntimeContext* %context) alwaysinline {
entry:
  br label %body
final:                                            ; preds = %body
  ret void
body:                                             ; preds = %entry
  %0 = getelementptr %struct.RuntimeContext, %struct.RuntimeContext* %context, i32 0, i32 0
  %1 = bitcast i8** %0 to { { { i32, i32 }, double* }, double, { { i32, i32 }, double* } }**
  %2 = load { { { i32, i32 }, double* }, double, { { i32, i32 }, double* } }*, { { { i32, i32 }, double* }, double, { { i32, i32 }, double* } }** %1, align 8
  %3 = getelementptr { { { i32, i32 }, double* }, double, { { i32, i32 }, double* } }, { { { i32, i32 }, double* }, double, { { i32, i32 }, double* } }* %2, i32 0, i32 0, i32 0, i32 0
  %4 = load i32, i32* %3, align 4
  %5 = call %struct.LLVMRuntime* @RuntimeContext_get_runtime(%struct.RuntimeContext* %context)
  %6 = call i8* @get_temporary_pointer(%struct.LLVMRuntime* %5, i64 8)
  %7 = bitcast i8* %6 to i32*
  store i32 %4, i32* %7, align 4
  %8 = getelementptr %struct.RuntimeContext, %struct.RuntimeContext* %context, i32 0, i32 0
  %9 = bitcast i8** %8 to { { { i32, i32 }, double* }, double, { { i32, i32 }, double* } }**
  %10 = load { { { i32, i32 }, double* }, double, { { i32, i32 }, double* } }*, { { { i32, i32 }, double* }, double, { { i32, i32 }, double* } }** %9, align 8
  %11 = getelementptr { { { i32, i32 }, double* }, double, { { i32, i32 }, double* } }, { { { i32, i32 }, double* }, double, { { i32, i32 }, double* } }* %10, i32 0, i32 0, i32 0, i32 1
  %12 = load i32, i32* %11, align 4
  %13 = call %struct.LLVMRuntime* @RuntimeContext_get_runtime(%struct.RuntimeContext* %context)
  %14 = call i8* @get_temporary_pointer(%struct.LLVMRuntime* %13, i64 4)
  %15 = bitcast i8* %14 to i32*
  store i32 %12, i32* %15, align 4
  %16 = mul i32 %4, %12
  %17 = call %struct.LLVMRuntime* @RuntimeContext_get_runtime(%struct.RuntimeContext* %context)
  %18 = call i8* @get_temporary_pointer(%struct.LLVMRuntime* %17, i64 0)
  %19 = bitcast i8* %18 to i32*
  store i32 %16, i32* %19, align 4
  br label %final
}
define internal void @task_1_body(%struct.RuntimeContext* %0, i8* %1, i32 %2) alwaysinline {
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
  %30 = bitcast i8** %29 to { { { i32, i32 }, double* }, double, { { i32, i32 }, double* } }**
  %31 = load { { { i32, i32 }, double* }, double, { { i32, i32 }, double* } }*, { { { i32, i32 }, double* }, double, { { i32, i32 }, double* } }** %30, align 8
  %32 = getelementptr { { { i32, i32 }, double* }, double, { { i32, i32 }, double* } }, { { { i32, i32 }, double* }, double, { { i32, i32 }, double* } }* %31, i32 0, i32 0
  %33 = getelementptr %struct.RuntimeContext, %struct.RuntimeContext* %0, i32 0, i32 0
  %34 = bitcast i8** %33 to { { { i32, i32 }, double* }, double, { { i32, i32 }, double* } }**
  %35 = load { { { i32, i32 }, double* }, double, { { i32, i32 }, double* } }*, { { { i32, i32 }, double* }, double, { { i32, i32 }, double* } }** %34, align 8
  %36 = getelementptr { { { i32, i32 }, double* }, double, { { i32, i32 }, double* } }, { { { i32, i32 }, double* }, double, { { i32, i32 }, double* } }* %35, i32 0, i32 1
  %37 = load double, double* %36, align 8
  %38 = getelementptr %struct.RuntimeContext, %struct.RuntimeContext* %0, i32 0, i32 0
  %39 = bitcast i8** %38 to { { { i32, i32 }, double* }, double, { { i32, i32 }, double* } }**
  %40 = load { { { i32, i32 }, double* }, double, { { i32, i32 }, double* } }*, { { { i32, i32 }, double* }, double, { { i32, i32 }, double* } }** %39, align 8
  %41 = getelementptr { { { i32, i32 }, double* }, double, { { i32, i32 }, double* } }, { { { i32, i32 }, double* }, double, { { i32, i32 }, double* } }* %40, i32 0, i32 2
  store i32 %26, i32* %4, align 4
  br label %for_loop_test
for_loop_body:                                    ; preds = %for_loop_test
  %42 = load i32, i32* %4, align 4
  %43 = call %struct.LLVMRuntime* @RuntimeContext_get_runtime(%struct.RuntimeContext* %0)
  %44 = call i8* @get_temporary_pointer(%struct.LLVMRuntime* %43, i64 4)
  %45 = bitcast i8* %44 to i32*
  %46 = load i32, i32* %45, align 4
  %47 = srem i32 %42, %46
  %48 = sdiv i32 %42, %46
  %49 = call %struct.LLVMRuntime* @RuntimeContext_get_runtime(%struct.RuntimeContext* %0)
  %50 = call i8* @get_temporary_pointer(%struct.LLVMRuntime* %49, i64 8)
  %51 = bitcast i8* %50 to i32*
  %52 = load i32, i32* %51, align 4
  %53 = srem i32 %48, %52
  %54 = sub i32 %53, 1
  %55 = call i32 @max_i32(i32 %54, i32 0)
  %56 = add i32 %53, 1
  %57 = sub i32 %52, 1
  %58 = call i32 @min_i32(i32 %56, i32 %57)
  %59 = sub i32 %47, 1
  %60 = call i32 @max_i32(i32 %59, i32 0)
  %61 = add i32 %47, 1
  %62 = sub i32 %46, 1
  %63 = call i32 @min_i32(i32 %61, i32 %62)
  %64 = getelementptr { { i32, i32 }, double* }, { { i32, i32 }, double* }* %32, i32 0, i32 1
  %65 = load double*, double** %64, align 8
  %66 = getelementptr { { i32, i32 }, double* }, { { i32, i32 }, double* }* %32, i32 0, i32 0, i32 0
  %67 = load i32, i32* %66, align 4
  %68 = getelementptr { { i32, i32 }, double* }, { { i32, i32 }, double* }* %32, i32 0, i32 0, i32 1
  %69 = load i32, i32* %68, align 4
  %70 = mul i32 0, %67
  %71 = add i32 %70, %53
  %72 = mul i32 %71, %69
  %73 = add i32 %72, %47
  %wide74.p0 = sext i32 %53 to i64
  %wide74.i0 = add nsw i64 %wide74.p0, 0
  %wide74.p1 = sext i32 %47 to i64
  %wide74.i1 = add nsw i64 %wide74.p1, 0
  %wide74.s1 = sext i32 %69 to i64
  %wide74.m1 = mul nsw i64 %wide74.i0, %wide74.s1
  %wide74.t1 = add nsw i64 %wide74.m1, %wide74.i1
  %wide74 = add nsw i64 %wide74.t1, 0
  %74 = getelementptr double, double* %65, i64 %wide74
  %75 = load double, double* %74, align 8
  %76 = getelementptr { { i32, i32 }, double* }, { { i32, i32 }, double* }* %32, i32 0, i32 1
  %77 = load double*, double** %76, align 8
  %78 = getelementptr { { i32, i32 }, double* }, { { i32, i32 }, double* }* %32, i32 0, i32 0, i32 0
  %79 = load i32, i32* %78, align 4
  %80 = getelementptr { { i32, i32 }, double* }, { { i32, i32 }, double* }* %32, i32 0, i32 0, i32 1
  %81 = load i32, i32* %80, align 4
  %82 = mul i32 0, %79
  %83 = add i32 %82, %55
  %84 = mul i32 %83, %81
  %85 = add i32 %84, %47
  %wide86.p0 = sext i32 %55 to i64
  %wide86.i0 = add nsw i64 %wide86.p0, 0
  %wide86.p1 = sext i32 %47 to i64
  %wide86.i1 = add nsw i64 %wide86.p1, 0
  %wide86.s1 = sext i32 %81 to i64
  %wide86.m1 = mul nsw i64 %wide86.i0, %wide86.s1
  %wide86.t1 = add nsw i64 %wide86.m1, %wide86.i1
  %wide86 = add nsw i64 %wide86.t1, 0
  %86 = getelementptr double, double* %77, i64 %wide86
  %87 = load double, double* %86, align 8
  %88 = getelementptr { { i32, i32 }, double* }, { { i32, i32 }, double* }* %32, i32 0, i32 1
  %89 = load double*, double** %88, align 8
  %90 = getelementptr { { i32, i32 }, double* }, { { i32, i32 }, double* }* %32, i32 0, i32 0, i32 0
  %91 = load i32, i32* %90, align 4
  %92 = getelementptr { { i32, i32 }, double* }, { { i32, i32 }, double* }* %32, i32 0, i32 0, i32 1
  %93 = load i32, i32* %92, align 4
  %94 = mul i32 0, %91
  %95 = add i32 %94, %58
  %96 = mul i32 %95, %93
  %97 = add i32 %96, %47
  %wide98.p0 = sext i32 %58 to i64
  %wide98.i0 = add nsw i64 %wide98.p0, 0
  %wide98.p1 = sext i32 %47 to i64
  %wide98.i1 = add nsw i64 %wide98.p1, 0
  %wide98.s1 = sext i32 %93 to i64
  %wide98.m1 = mul nsw i64 %wide98.i0, %wide98.s1
  %wide98.t1 = add nsw i64 %wide98.m1, %wide98.i1
  %wide98 = add nsw i64 %wide98.t1, 0
  %98 = getelementptr double, double* %89, i64 %wide98
  %99 = load double, double* %98, align 8
  %100 = fadd contract double %87, %99
  %101 = getelementptr { { i32, i32 }, double* }, { { i32, i32 }, double* }* %32, i32 0, i32 1
  %102 = load double*, double** %101, align 8
  %103 = getelementptr { { i32, i32 }, double* }, { { i32, i32 }, double* }* %32, i32 0, i32 0, i32 0
  %104 = load i32, i32* %103, align 4
  %105 = getelementptr { { i32, i32 }, double* }, { { i32, i32 }, double* }* %32, i32 0, i32 0, i32 1
  %106 = load i32, i32* %105, align 4
  %107 = mul i32 0, %104
  %108 = add i32 %107, %53
  %109 = mul i32 %108, %106
  %110 = add i32 %109, %60
  %wide111.p0 = sext i32 %53 to i64
  %wide111.i0 = add nsw i64 %wide111.p0, 0
  %wide111.p1 = sext i32 %60 to i64
  %wide111.i1 = add nsw i64 %wide111.p1, 0
  %wide111.s1 = sext i32 %106 to i64
  %wide111.m1 = mul nsw i64 %wide111.i0, %wide111.s1
  %wide111.t1 = add nsw i64 %wide111.m1, %wide111.i1
  %wide111 = add nsw i64 %wide111.t1, 0
  %111 = getelementptr double, double* %102, i64 %wide111
  %112 = load double, double* %111, align 8
  %113 = fadd contract double %100, %112
  %114 = getelementptr { { i32, i32 }, double* }, { { i32, i32 }, double* }* %32, i32 0, i32 1
  %115 = load double*, double** %114, align 8
  %116 = getelementptr { { i32, i32 }, double* }, { { i32, i32 }, double* }* %32, i32 0, i32 0, i32 0
  %117 = load i32, i32* %116, align 4
  %118 = getelementptr { { i32, i32 }, double* }, { { i32, i32 }, double* }* %32, i32 0, i32 0, i32 1
  %119 = load i32, i32* %118, align 4
  %120 = mul i32 0, %117
  %121 = add i32 %120, %53
  %122 = mul i32 %121, %119
  %123 = add i32 %122, %63
  %wide124.p0 = sext i32 %53 to i64
  %wide124.i0 = add nsw i64 %wide124.p0, 0
  %wide124.p1 = sext i32 %63 to i64
  %wide124.i1 = add nsw i64 %wide124.p1, 0
  %wide124.s1 = sext i32 %119 to i64
  %wide124.m1 = mul nsw i64 %wide124.i0, %wide124.s1
  %wide124.t1 = add nsw i64 %wide124.m1, %wide124.i1
  %wide124 = add nsw i64 %wide124.t1, 0
  %124 = getelementptr double, double* %115, i64 %wide124
  %125 = load double, double* %124, align 8
  %126 = fadd contract double %113, %125
  %127 = fmul contract double %75, 4.000000e+00
  %128 = fsub contract double %126, %127
  %129 = fmul contract double %37, %128
  %130 = fadd contract double %75, %129
  %131 = getelementptr { { i32, i32 }, double* }, { { i32, i32 }, double* }* %41, i32 0, i32 1
  %132 = load double*, double** %131, align 8
  %133 = getelementptr { { i32, i32 }, double* }, { { i32, i32 }, double* }* %41, i32 0, i32 0, i32 0
  %134 = load i32, i32* %133, align 4
  %135 = getelementptr { { i32, i32 }, double* }, { { i32, i32 }, double* }* %41, i32 0, i32 0, i32 1
  %136 = load i32, i32* %135, align 4
  %137 = mul i32 0, %134
  %138 = add i32 %137, %53
  %139 = mul i32 %138, %136
  %140 = add i32 %139, %47
  %wide141.p0 = sext i32 %53 to i64
  %wide141.i0 = add nsw i64 %wide141.p0, 0
  %wide141.p1 = sext i32 %47 to i64
  %wide141.i1 = add nsw i64 %wide141.p1, 0
  %wide141.s1 = sext i32 %136 to i64
  %wide141.m1 = mul nsw i64 %wide141.i0, %wide141.s1
  %wide141.t1 = add nsw i64 %wide141.m1, %wide141.i1
  %wide141 = add nsw i64 %wide141.t1, 0
  %141 = getelementptr double, double* %132, i64 %wide141
  store double %130, double* %141, align 8
  br label %for_loop_inc
for_loop_inc:                                     ; preds = %for_loop_body
  %142 = load i32, i32* %4, align 4
  %143 = add i32 %142, 1
  store i32 %143, i32* %4, align 4
  br label %for_loop_test
after_for:                                        ; preds = %for_loop_test
  br label %final
for_loop_test:                                    ; preds = %for_loop_inc, %function_body
  %144 = load i32, i32* %4, align 4
  %145 = icmp slt i32 %144, %28
  br i1 %145, label %for_loop_body, label %after_for
}
define hidden i32 @heat_step_float64_dynamic_forward_v3(i64 %rows, i64* %dims, i8** %arrays, i8* %workspace, %tiaot.host* %host) {
first:
  %v0 = getelementptr i64, i64* %dims, i64 0
  %v1 = load i64, i64* %v0
  %v2 = getelementptr i64, i64* %dims, i64 1
  %v3 = load i64, i64* %v2
  %v4 = getelementptr i8*, i8** %arrays, i64 0
  %v5 = load i8*, i8** %v4
  %v6 = getelementptr i8*, i8** %arrays, i64 1
  %v7 = load i8*, i8** %v6
  %v8 = getelementptr i8*, i8** %arrays, i64 2
  %v9 = load i8*, i8** %v8
  %v10 = mul nsw i64 %v1, %v3
  %v11 = mul nsw i64 %v10, 8
  call void @llvm.memset.p0i8.i64(i8* %v9, i8 0, i64 %v11, i1 false)
  %v12 = getelementptr i8, i8* %workspace, i64 0
  %v13 = alloca i32
  store i32 0, i32* %v13
  %v14 = alloca [72 x i8], align 64
  %v15 = alloca [8 x i64]
  %v16 = ptrtoint i8* %v5 to i64
  %v17 = getelementptr [8 x i64], [8 x i64]* %v15, i64 0, i64 0
  store i64 %v16, i64* %v17
  %v18 = ptrtoint i8* %v7 to i64
  %v19 = getelementptr [8 x i64], [8 x i64]* %v15, i64 0, i64 1
  store i64 %v18, i64* %v19
  %v20 = ptrtoint i8* %v9 to i64
  %v21 = getelementptr [8 x i64], [8 x i64]* %v15, i64 0, i64 2
  store i64 %v20, i64* %v21
  %v22 = getelementptr [8 x i64], [8 x i64]* %v15, i64 0, i64 3
  store i64 %v1, i64* %v22
  %v23 = getelementptr [8 x i64], [8 x i64]* %v15, i64 0, i64 4
  store i64 %v3, i64* %v23
  %v24 = ptrtoint [72 x i8]* %v14 to i64
  %v25 = getelementptr [8 x i64], [8 x i64]* %v15, i64 0, i64 5
  store i64 %v24, i64* %v25
  %v26 = ptrtoint i32* %v13 to i64
  %v27 = getelementptr [8 x i64], [8 x i64]* %v15, i64 0, i64 6
  store i64 %v26, i64* %v27
  %v28 = alloca [1024 x i8], align 64
  %v29 = bitcast [1024 x i8]* %v28 to i8*
  %v30 = bitcast [8 x i64]* %v15 to i8*
  call void @heat_step_float64_dynamic_forward_v3.task_0.piece(i8* %v30, i64 0)
  %v31 = bitcast [8 x i64]* %v15 to i8*
  %v32 = getelementptr [8 x i64], [8 x i64]* %v15, i64 0, i64 7
  %v33 = ptrtoint i8* %v29 to i64
  store i64 %v33, i64* %v32
  %task1.alone = icmp eq %tiaot.host* %host, null
  br i1 %task1.alone, label %task1.serial, label %task1.shared
task1.shared:
  %v34 = getelementptr %tiaot.host, %tiaot.host* %host, i32 0, i32 0
  %v35 = load void (i8*, i64, void (i8*, i64)*, i8*)*, void (i8*, i64, void (i8*, i64)*, i8*)** %v34
  %v36 = getelementptr %tiaot.host, %tiaot.host* %host, i32 0, i32 1
  %v37 = load i8*, i8** %v36
  call void %v35(i8* %v37, i64 16, void (i8*, i64)* @heat_step_float64_dynamic_forward_v3.task_1.piece, i8* %v31)
  br label %task1.end
task1.serial:
  call void @heat_step_float64_dynamic_forward_v3.task_1.piece(i8* %v31, i64 0)
  call void @heat_step_float64_dynamic_forward_v3.task_1.piece(i8* %v31, i64 1)
  call void @heat_step_float64_dynamic_forward_v3.task_1.piece(i8* %v31, i64 2)
  call void @heat_step_float64_dynamic_forward_v3.task_1.piece(i8* %v31, i64 3)
  call void @heat_step_float64_dynamic_forward_v3.task_1.piece(i8* %v31, i64 4)
  call void @heat_step_float64_dynamic_forward_v3.task_1.piece(i8* %v31, i64 5)
  call void @heat_step_float64_dynamic_forward_v3.task_1.piece(i8* %v31, i64 6)
  call void @heat_step_float64_dynamic_forward_v3.task_1.piece(i8* %v31, i64 7)
  call void @heat_step_float64_dynamic_forward_v3.task_1.piece(i8* %v31, i64 8)
  call void @heat_step_float64_dynamic_forward_v3.task_1.piece(i8* %v31, i64 9)
  call void @heat_step_float64_dynamic_forward_v3.task_1.piece(i8* %v31, i64 10)
  call void @heat_step_float64_dynamic_forward_v3.task_1.piece(i8* %v31, i64 11)
  call void @heat_step_float64_dynamic_forward_v3.task_1.piece(i8* %v31, i64 12)
  call void @heat_step_float64_dynamic_forward_v3.task_1.piece(i8* %v31, i64 13)
  call void @heat_step_float64_dynamic_forward_v3.task_1.piece(i8* %v31, i64 14)
  call void @heat_step_float64_dynamic_forward_v3.task_1.piece(i8* %v31, i64 15)
  br label %task1.end
task1.end:
  %v38 = load i32, i32* %v13
  ret i32 %v38
}
define internal %struct.LLVMRuntime* @RuntimeContext_get_runtime(%struct.RuntimeContext* %c) alwaysinline {
  %p = getelementptr %struct.RuntimeContext, %struct.RuntimeContext* %c, i32 0, i32 1
  %r = load %struct.LLVMRuntime*, %struct.LLVMRuntime** %p
  ret %struct.LLVMRuntime* %r
}
define internal i8* @get_temporary_pointer(%struct.LLVMRuntime* %r, i64 %o) alwaysinline {
  %f = bitcast %struct.LLVMRuntime* %r to %tiaot.frame*
  %p = getelementptr %tiaot.frame, %tiaot.frame* %f, i32 0, i32 0
  %t = load i8*, i8** %p
  %q = getelementptr i8, i8* %t, i64 %o
  ret i8* %q
}
define internal i32 @max_i32(i32 %a, i32 %b) alwaysinline {
  %c = icmp sgt i32 %a, %b
  %r = select i1 %c, i32 %a, i32 %b
  ret i32 %r
}
define internal i32 @min_i32(i32 %a, i32 %b) alwaysinline {
  %c = icmp slt i32 %a, %b
  %r = select i1 %c, i32 %a, i32 %b
  ret i32 %r
}
declare void @llvm.memcpy.p0i8.p0i8.i64(i8* noalias, i8* noalias, i64, i1)
declare void @llvm.memset.p0i8.i64(i8*, i8, i64, i1)
define hidden i64 @heat_step_float64_dynamic_forward_v3_workspace(i64 %rows, i64* %dims) {
  %v0 = getelementptr i64, i64* %dims, i64 0
  %v1 = load i64, i64* %v0
  %v2 = getelementptr i64, i64* %dims, i64 1
  %v3 = load i64, i64* %v2
  ret i64 0
}
