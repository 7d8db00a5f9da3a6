; What LLVM is given for the entry cross_entropy_float32_dynamic_vjp_logits of examples/kernels/learning.py.
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
define internal void @cross_entropy_float32_dynamic_vjp_logits_v3.task_0.piece.run(i8* noalias %input_logits, i8* noalias %input_label, i8* noalias %cotangent_loss, i8* noalias %gradient_logits, i64 %dim_B, i64 %dim_n, i8* %temporaries, i8* %failed, i8* %locals, i64 %index) noinline {
  %context = alloca %struct.RuntimeContext
  %v0 = alloca { { { i32, i32 }, float* }, { { i32 }, i32* }, { { i32 }, float* }, { { i32, i32 }, float* } }
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
  %v8 = bitcast { { { i32, i32 }, float* }, { { i32 }, i32* }, { { i32 }, float* }, { { i32, i32 }, float* } }* %v0 to i8*
  %v9 = getelementptr %struct.RuntimeContext, %struct.RuntimeContext* %context, i32 0, i32 0
  store i8* %v8, i8** %v9
  %v10 = getelementptr %struct.RuntimeContext, %struct.RuntimeContext* %context, i32 0, i32 1
  store %struct.LLVMRuntime* %v7, %struct.LLVMRuntime** %v10
  %v11 = trunc i64 %dim_B to i32
  %v12 = getelementptr { { { i32, i32 }, float* }, { { i32 }, i32* }, { { i32 }, float* }, { { i32, i32 }, float* } }, { { { i32, i32 }, float* }, { { i32 }, i32* }, { { i32 }, float* }, { { i32, i32 }, float* } }* %v0, i32 0, i32 0, i32 0, i32 0
  store i32 %v11, i32* %v12
  %v13 = trunc i64 %dim_n to i32
  %v14 = getelementptr { { { i32, i32 }, float* }, { { i32 }, i32* }, { { i32 }, float* }, { { i32, i32 }, float* } }, { { { i32, i32 }, float* }, { { i32 }, i32* }, { { i32 }, float* }, { { i32, i32 }, float* } }* %v0, i32 0, i32 0, i32 0, i32 1
  store i32 %v13, i32* %v14
  %v15 = bitcast i8* %input_logits to float*
  %v16 = getelementptr { { { i32, i32 }, float* }, { { i32 }, i32* }, { { i32 }, float* }, { { i32, i32 }, float* } }, { { { i32, i32 }, float* }, { { i32 }, i32* }, { { i32 }, float* }, { { i32, i32 }, float* } }* %v0, i32 0, i32 0, i32 1
  store float* %v15, float** %v16
  %v17 = trunc i64 %dim_B to i32
  %v18 = getelementptr { { { i32, i32 }, float* }, { { i32 }, i32* }, { { i32 }, float* }, { { i32, i32 }, float* } }, { { { i32, i32 }, float* }, { { i32 }, i32* }, { { i32 }, float* }, { { i32, i32 }, float* } }* %v0, i32 0, i32 1, i32 0, i32 0
  store i32 %v17, i32* %v18
  %v19 = bitcast i8* %input_label to i32*
  %v20 = getelementptr { { { i32, i32 }, float* }, { { i32 }, i32* }, { { i32 }, float* }, { { i32, i32 }, float* } }, { { { i32, i32 }, float* }, { { i32 }, i32* }, { { i32 }, float* }, { { i32, i32 }, float* } }* %v0, i32 0, i32 1, i32 1
  store i32* %v19, i32** %v20
  %v21 = trunc i64 %dim_B to i32
  %v22 = getelementptr { { { i32, i32 }, float* }, { { i32 }, i32* }, { { i32 }, float* }, { { i32, i32 }, float* } }, { { { i32, i32 }, float* }, { { i32 }, i32* }, { { i32 }, float* }, { { i32, i32 }, float* } }* %v0, i32 0, i32 2, i32 0, i32 0
  store i32 %v21, i32* %v22
  %v23 = bitcast i8* %cotangent_loss to float*
  %v24 = getelementptr { { { i32, i32 }, float* }, { { i32 }, i32* }, { { i32 }, float* }, { { i32, i32 }, float* } }, { { { i32, i32 }, float* }, { { i32 }, i32* }, { { i32 }, float* }, { { i32, i32 }, float* } }* %v0, i32 0, i32 2, i32 1
  store float* %v23, float** %v24
  %v25 = trunc i64 %dim_B to i32
  %v26 = getelementptr { { { i32, i32 }, float* }, { { i32 }, i32* }, { { i32 }, float* }, { { i32, i32 }, float* } }, { { { i32, i32 }, float* }, { { i32 }, i32* }, { { i32 }, float* }, { { i32, i32 }, float* } }* %v0, i32 0, i32 3, i32 0, i32 0
  store i32 %v25, i32* %v26
  %v27 = trunc i64 %dim_n to i32
  %v28 = getelementptr { { { i32, i32 }, float* }, { { i32 }, i32* }, { { i32 }, float* }, { { i32, i32 }, float* } }, { { { i32, i32 }, float* }, { { i32 }, i32* }, { { i32 }, float* }, { { i32, i32 }, float* } }* %v0, i32 0, i32 3, i32 0, i32 1
  store i32 %v27, i32* %v28
  %v29 = bitcast i8* %gradient_logits to float*
  %v30 = getelementptr { { { i32, i32 }, float* }, { { i32 }, i32* }, { { i32 }, float* }, { { i32, i32 }, float* } }, { { { i32, i32 }, float* }, { { i32 }, i32* }, { { i32 }, float* }, { { i32, i32 }, float* } }* %v0, i32 0, i32 3, i32 1
  store float* %v29, float** %v30
  call void @task_0_body(%struct.RuntimeContext* %context)
  ret void
}
define internal void @cross_entropy_float32_dynamic_vjp_logits_v3.task_0.piece(i8* %record, i64 %index) {
  %v0 = bitcast i8* %record to [9 x i64]*
  %v1 = getelementptr [9 x i64], [9 x i64]* %v0, i64 0, i64 0
  %v2 = load i64, i64* %v1
  %v3 = inttoptr i64 %v2 to i8*
  %v4 = getelementptr [9 x i64], [9 x i64]* %v0, i64 0, i64 1
  %v5 = load i64, i64* %v4
  %v6 = inttoptr i64 %v5 to i8*
  %v7 = getelementptr [9 x i64], [9 x i64]* %v0, i64 0, i64 2
  %v8 = load i64, i64* %v7
  %v9 = inttoptr i64 %v8 to i8*
  %v10 = getelementptr [9 x i64], [9 x i64]* %v0, i64 0, i64 3
  %v11 = load i64, i64* %v10
  %v12 = inttoptr i64 %v11 to i8*
  %v13 = getelementptr [9 x i64], [9 x i64]* %v0, i64 0, i64 4
  %v14 = load i64, i64* %v13
  %v15 = getelementptr [9 x i64], [9 x i64]* %v0, i64 0, i64 5
  %v16 = load i64, i64* %v15
  %v17 = getelementptr [9 x i64], [9 x i64]* %v0, i64 0, i64 6
  %v18 = load i64, i64* %v17
  %v19 = inttoptr i64 %v18 to i8*
  %v20 = getelementptr [9 x i64], [9 x i64]* %v0, i64 0, i64 7
  %v21 = load i64, i64* %v20
  %v22 = inttoptr i64 %v21 to i8*
  %v23 = getelementptr [9 x i64], [9 x i64]* %v0, i64 0, i64 8
  %v24 = load i64, i64* %v23
  %v25 = inttoptr i64 %v24 to i8*
  call void @cross_entropy_float32_dynamic_vjp_logits_v3.task_0.piece.run(i8* %v3, i8* %v6, i8* %v9, i8* %v12, i64 %v14, i64 %v16, i8* %v19, i8* %v22, i8* %v25, i64 %index)
  ret void
}
define internal void @cross_entropy_float32_dynamic_vjp_logits_v3.task_1.piece.run(i8* noalias %input_logits, i8* noalias %input_label, i8* noalias %cotangent_loss, i8* noalias %gradient_logits, i64 %dim_B, i64 %dim_n, i8* %temporaries, i8* %failed, i8* %locals, i64 %index) noinline {
  %context = alloca %struct.RuntimeContext
  %v0 = alloca { { { i32, i32 }, float* }, { { i32 }, i32* }, { { i32 }, float* }, { { i32, i32 }, float* } }
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
  %v8 = bitcast { { { i32, i32 }, float* }, { { i32 }, i32* }, { { i32 }, float* }, { { i32, i32 }, float* } }* %v0 to i8*
  %v9 = getelementptr %struct.RuntimeContext, %struct.RuntimeContext* %context, i32 0, i32 0
  store i8* %v8, i8** %v9
  %v10 = getelementptr %struct.RuntimeContext, %struct.RuntimeContext* %context, i32 0, i32 1
  store %struct.LLVMRuntime* %v7, %struct.LLVMRuntime** %v10
  %v11 = trunc i64 %dim_B to i32
  %v12 = getelementptr { { { i32, i32 }, float* }, { { i32 }, i32* }, { { i32 }, float* }, { { i32, i32 }, float* } }, { { { i32, i32 }, float* }, { { i32 }, i32* }, { { i32 }, float* }, { { i32, i32 }, float* } }* %v0, i32 0, i32 0, i32 0, i32 0
  store i32 %v11, i32* %v12
  %v13 = trunc i64 %dim_n to i32
  %v14 = getelementptr { { { i32, i32 }, float* }, { { i32 }, i32* }, { { i32 }, float* }, { { i32, i32 }, float* } }, { { { i32, i32 }, float* }, { { i32 }, i32* }, { { i32 }, float* }, { { i32, i32 }, float* } }* %v0, i32 0, i32 0, i32 0, i32 1
  store i32 %v13, i32* %v14
  %v15 = bitcast i8* %input_logits to float*
  %v16 = getelementptr { { { i32, i32 }, float* }, { { i32 }, i32* }, { { i32 }, float* }, { { i32, i32 }, float* } }, { { { i32, i32 }, float* }, { { i32 }, i32* }, { { i32 }, float* }, { { i32, i32 }, float* } }* %v0, i32 0, i32 0, i32 1
  store float* %v15, float** %v16
  %v17 = trunc i64 %dim_B to i32
  %v18 = getelementptr { { { i32, i32 }, float* }, { { i32 }, i32* }, { { i32 }, float* }, { { i32, i32 }, float* } }, { { { i32, i32 }, float* }, { { i32 }, i32* }, { { i32 }, float* }, { { i32, i32 }, float* } }* %v0, i32 0, i32 1, i32 0, i32 0
  store i32 %v17, i32* %v18
  %v19 = bitcast i8* %input_label to i32*
  %v20 = getelementptr { { { i32, i32 }, float* }, { { i32 }, i32* }, { { i32 }, float* }, { { i32, i32 }, float* } }, { { { i32, i32 }, float* }, { { i32 }, i32* }, { { i32 }, float* }, { { i32, i32 }, float* } }* %v0, i32 0, i32 1, i32 1
  store i32* %v19, i32** %v20
  %v21 = trunc i64 %dim_B to i32
  %v22 = getelementptr { { { i32, i32 }, float* }, { { i32 }, i32* }, { { i32 }, float* }, { { i32, i32 }, float* } }, { { { i32, i32 }, float* }, { { i32 }, i32* }, { { i32 }, float* }, { { i32, i32 }, float* } }* %v0, i32 0, i32 2, i32 0, i32 0
  store i32 %v21, i32* %v22
  %v23 = bitcast i8* %cotangent_loss to float*
  %v24 = getelementptr { { { i32, i32 }, float* }, { { i32 }, i32* }, { { i32 }, float* }, { { i32, i32 }, float* } }, { { { i32, i32 }, float* }, { { i32 }, i32* }, { { i32 }, float* }, { { i32, i32 }, float* } }* %v0, i32 0, i32 2, i32 1
  store float* %v23, float** %v24
  %v25 = trunc i64 %dim_B to i32
  %v26 = getelementptr { { { i32, i32 }, float* }, { { i32 }, i32* }, { { i32 }, float* }, { { i32, i32 }, float* } }, { { { i32, i32 }, float* }, { { i32 }, i32* }, { { i32 }, float* }, { { i32, i32 }, float* } }* %v0, i32 0, i32 3, i32 0, i32 0
  store i32 %v25, i32* %v26
  %v27 = trunc i64 %dim_n to i32
  %v28 = getelementptr { { { i32, i32 }, float* }, { { i32 }, i32* }, { { i32 }, float* }, { { i32, i32 }, float* } }, { { { i32, i32 }, float* }, { { i32 }, i32* }, { { i32 }, float* }, { { i32, i32 }, float* } }* %v0, i32 0, i32 3, i32 0, i32 1
  store i32 %v27, i32* %v28
  %v29 = bitcast i8* %gradient_logits to float*
  %v30 = getelementptr { { { i32, i32 }, float* }, { { i32 }, i32* }, { { i32 }, float* }, { { i32, i32 }, float* } }, { { { i32, i32 }, float* }, { { i32 }, i32* }, { { i32 }, float* }, { { i32, i32 }, float* } }* %v0, i32 0, i32 3, i32 1
  store float* %v29, float** %v30
  %piece = trunc i64 %index to i32
  %v31 = mul i64 %index, 64
  %local = getelementptr i8, i8* %locals, i64 %v31
  call void @task_1_body(%struct.RuntimeContext* %context, i8* %local, i32 %piece)
  ret void
}
define internal void @cross_entropy_float32_dynamic_vjp_logits_v3.task_1.piece(i8* %record, i64 %index) {
  %v0 = bitcast i8* %record to [9 x i64]*
  %v1 = getelementptr [9 x i64], [9 x i64]* %v0, i64 0, i64 0
  %v2 = load i64, i64* %v1
  %v3 = inttoptr i64 %v2 to i8*
  %v4 = getelementptr [9 x i64], [9 x i64]* %v0, i64 0, i64 1
  %v5 = load i64, i64* %v4
  %v6 = inttoptr i64 %v5 to i8*
  %v7 = getelementptr [9 x i64], [9 x i64]* %v0, i64 0, i64 2
  %v8 = load i64, i64* %v7
  %v9 = inttoptr i64 %v8 to i8*
  %v10 = getelementptr [9 x i64], [9 x i64]* %v0, i64 0, i64 3
  %v11 = load i64, i64* %v10
  %v12 = inttoptr i64 %v11 to i8*
  %v13 = getelementptr [9 x i64], [9 x i64]* %v0, i64 0, i64 4
  %v14 = load i64, i64* %v13
  %v15 = getelementptr [9 x i64], [9 x i64]* %v0, i64 0, i64 5
  %v16 = load i64, i64* %v15
  %v17 = getelementptr [9 x i64], [9 x i64]* %v0, i64 0, i64 6
  %v18 = load i64, i64* %v17
  %v19 = inttoptr i64 %v18 to i8*
  %v20 = getelementptr [9 x i64], [9 x i64]* %v0, i64 0, i64 7
  %v21 = load i64, i64* %v20
  %v22 = inttoptr i64 %v21 to i8*
  %v23 = getelementptr [9 x i64], [9 x i64]* %v0, i64 0, i64 8
  %v24 = load i64, i64* %v23
  %v25 = inttoptr i64 %v24 to i8*
  call void @cross_entropy_float32_dynamic_vjp_logits_v3.task_1.piece.run(i8* %v3, i8* %v6, i8* %v9, i8* %v12, i64 %v14, i64 %v16, i8* %v19, i8* %v22, i8* %v25, i64 %index)
  ret void
}
define internal void @task_0_body(%struct.RuntimeContext* %context) alwaysinline {
entry:
  br label %body
final:                                            ; preds = %body
  ret void
body:                                             ; preds = %entry
  %0 = getelementptr %struct.RuntimeContext, %struct.RuntimeContext* %context, i32 0, i32 0
  %1 = bitcast i8** %0 to { { { i32, i32 }, float* }, { { i32 }, i32* }, { { i32 }, float* }, { { i32, i32 }, float* } }**
  %2 = load { { { i32, i32 }, float* }, { { i32 }, i32* }, { { i32 }, float* }, { { i32, i32 }, float* } }*, { { { i32, i32 }, float* }, { { i32 }, i32* }, { { i32 }, float* }, { { i32, i32 }, float* } }** %1, align 8
  %3 = getelementptr { { { i32, i32 }, float* }, { { i32 }, i32* }, { { i32 }, float* }, { { i32, i32 }, float* } }, { { { i32, i32 }, float* }, { { i32 }, i32* }, { { i32 }, float* }, { { i32, i32 }, float* } }* %2, i32 0, i32 2, i32 0, i32 0
  %4 = load i32, i32* %3, align 4
  %5 = call %struct.LLVMRuntime* @RuntimeContext_get_runtime(%struct.RuntimeContext* %context)
  %6 = call i8* @get_temporary_pointer(%struct.LLVMRuntime* %5, i64 0)
  %7 = bitcast i8* %6 to i32*
  store i32 %4, i32* %7, align 4
  br label %final
}
define internal void @task_1_body(%struct.RuntimeContext* %0, i8* %1, i32 %2) alwaysinline {
allocs:
  %3 = alloca i32, align 4
  %4 = alloca i32, align 4
  %5 = alloca float, align 4
  %6 = alloca i32, align 4
  %7 = alloca float, align 4
  %8 = alloca i32, align 4
  %9 = alloca i32, align 4
  br label %entry
final:                                            ; preds = %after_for
  ret void
entry:                                            ; preds = %allocs
  br label %function_body
function_body:                                    ; preds = %entry
  store i32 %2, i32* %3, align 4
  %10 = load i32, i32* %3, align 4
  %11 = call %struct.LLVMRuntime* @RuntimeContext_get_runtime(%struct.RuntimeContext* %0)
  %12 = call i8* @get_temporary_pointer(%struct.LLVMRuntime* %11, i64 0)
  %13 = bitcast i8* %12 to i32*
  %14 = load i32, i32* %13, align 4
  %15 = sub i32 %14, -15
  %16 = sdiv i32 %15, 16
  %17 = icmp slt i32 %15, 0
  %18 = shl i32 %16, 4
  %19 = icmp ne i1 %17, false
  %20 = icmp ne i32 %15, 0
  %21 = icmp ne i32 %18, %15
  %22 = icmp ne i1 %19, false
  %23 = icmp ne i1 %20, false
  %24 = and i1 %22, %23
  %25 = icmp ne i1 %24, false
  %26 = icmp ne i1 %21, false
  %27 = and i1 %25, %26
  %28 = zext i1 %27 to i32
  %29 = sub i32 %16, %28
  %30 = call i32 @max_i32(i32 %29, i32 512)
  %31 = mul i32 %30, %10
  %32 = add i32 %31, %30
  %33 = call i32 @min_i32(i32 %14, i32 %32)
  %34 = getelementptr %struct.RuntimeContext, %struct.RuntimeContext* %0, i32 0, i32 0
  %35 = bitcast i8** %34 to { { { i32, i32 }, float* }, { { i32 }, i32* }, { { i32 }, float* }, { { i32, i32 }, float* } }**
  %36 = load { { { i32, i32 }, float* }, { { i32 }, i32* }, { { i32 }, float* }, { { i32, i32 }, float* } }*, { { { i32, i32 }, float* }, { { i32 }, i32* }, { { i32 }, float* }, { { i32, i32 }, float* } }** %35, align 8
  %37 = getelementptr { { { i32, i32 }, float* }, { { i32 }, i32* }, { { i32 }, float* }, { { i32, i32 }, float* } }, { { { i32, i32 }, float* }, { { i32 }, i32* }, { { i32 }, float* }, { { i32, i32 }, float* } }* %36, i32 0, i32 0
  %38 = getelementptr %struct.RuntimeContext, %struct.RuntimeContext* %0, i32 0, i32 0
  %39 = bitcast i8** %38 to { { { i32, i32 }, float* }, { { i32 }, i32* }, { { i32 }, float* }, { { i32, i32 }, float* } }**
  %40 = load { { { i32, i32 }, float* }, { { i32 }, i32* }, { { i32 }, float* }, { { i32, i32 }, float* } }*, { { { i32, i32 }, float* }, { { i32 }, i32* }, { { i32 }, float* }, { { i32, i32 }, float* } }** %39, align 8
  %41 = getelementptr { { { i32, i32 }, float* }, { { i32 }, i32* }, { { i32 }, float* }, { { i32, i32 }, float* } }, { { { i32, i32 }, float* }, { { i32 }, i32* }, { { i32 }, float* }, { { i32, i32 }, float* } }* %40, i32 0, i32 2
  %42 = getelementptr %struct.RuntimeContext, %struct.RuntimeContext* %0, i32 0, i32 0
  %43 = bitcast i8** %42 to { { { i32, i32 }, float* }, { { i32 }, i32* }, { { i32 }, float* }, { { i32, i32 }, float* } }**
  %44 = load { { { i32, i32 }, float* }, { { i32 }, i32* }, { { i32 }, float* }, { { i32, i32 }, float* } }*, { { { i32, i32 }, float* }, { { i32 }, i32* }, { { i32 }, float* }, { { i32, i32 }, float* } }** %43, align 8
  %45 = getelementptr { { { i32, i32 }, float* }, { { i32 }, i32* }, { { i32 }, float* }, { { i32, i32 }, float* } }, { { { i32, i32 }, float* }, { { i32 }, i32* }, { { i32 }, float* }, { { i32, i32 }, float* } }* %44, i32 0, i32 3
  %46 = getelementptr %struct.RuntimeContext, %struct.RuntimeContext* %0, i32 0, i32 0
  %47 = bitcast i8** %46 to { { { i32, i32 }, float* }, { { i32 }, i32* }, { { i32 }, float* }, { { i32, i32 }, float* } }**
  %48 = load { { { i32, i32 }, float* }, { { i32 }, i32* }, { { i32 }, float* }, { { i32, i32 }, float* } }*, { { { i32, i32 }, float* }, { { i32 }, i32* }, { { i32 }, float* }, { { i32, i32 }, float* } }** %47, align 8
  %49 = getelementptr { { { i32, i32 }, float* }, { { i32 }, i32* }, { { i32 }, float* }, { { i32, i32 }, float* } }, { { { i32, i32 }, float* }, { { i32 }, i32* }, { { i32 }, float* }, { { i32, i32 }, float* } }* %48, i32 0, i32 1
  store i32 %31, i32* %4, align 4
  br label %for_loop_test
for_loop_body:                                    ; preds = %for_loop_test
  %50 = load i32, i32* %4, align 4
  %51 = load i32, i32* %13, align 4
  %52 = srem i32 %50, %51
  %53 = getelementptr { { i32, i32 }, float* }, { { i32, i32 }, float* }* %37, i32 0, i32 1
  %54 = load float*, float** %53, align 8
  %55 = getelementptr { { i32, i32 }, float* }, { { i32, i32 }, float* }* %37, i32 0, i32 0, i32 0
  %56 = load i32, i32* %55, align 4
  %57 = getelementptr { { i32, i32 }, float* }, { { i32, i32 }, float* }* %37, i32 0, i32 0, i32 1
  %58 = load i32, i32* %57, align 4
  %59 = mul i32 0, %56
  %60 = add i32 %59, %52
  %61 = mul i32 %60, %58
  %62 = add i32 %61, 0
  %wide63.p0 = sext i32 %52 to i64
  %wide63.i0 = add nsw i64 %wide63.p0, 0
  %wide63.s1 = sext i32 %58 to i64
  %wide63.m1 = mul nsw i64 %wide63.i0, %wide63.s1
  %wide63.t1 = add nsw i64 %wide63.m1, 0
  %wide63 = add nsw i64 %wide63.t1, 0
  %63 = getelementptr float, float* %54, i64 %wide63
  %64 = load float, float* %63, align 4
  store float 0.000000e+00, float* %5, align 4
  store float %64, float* %5, align 4
  %65 = getelementptr %struct.RuntimeContext, %struct.RuntimeContext* %0, i32 0, i32 0
  %66 = bitcast i8** %65 to { { { i32, i32 }, float* }, { { i32 }, i32* }, { { i32 }, float* }, { { i32, i32 }, float* } }**
  %67 = load { { { i32, i32 }, float* }, { { i32 }, i32* }, { { i32 }, float* }, { { i32, i32 }, float* } }*, { { { i32, i32 }, float* }, { { i32 }, i32* }, { { i32 }, float* }, { { i32, i32 }, float* } }** %66, align 8
  %68 = getelementptr { { { i32, i32 }, float* }, { { i32 }, i32* }, { { i32 }, float* }, { { i32, i32 }, float* } }, { { { i32, i32 }, float* }, { { i32 }, i32* }, { { i32 }, float* }, { { i32, i32 }, float* } }* %67, i32 0, i32 0, i32 0, i32 1
  %69 = load i32, i32* %68, align 4
  store i32 0, i32* %6, align 4
  br label %for_loop_test4
for_loop_inc:                                     ; preds = %after_for11
  %70 = load i32, i32* %4, align 4
  %71 = add i32 %70, 1
  store i32 %71, i32* %4, align 4
  br label %for_loop_test
after_for:                                        ; preds = %for_loop_test
  br label %final
for_loop_test:                                    ; preds = %for_loop_inc, %function_body
  %72 = load i32, i32* %4, align 4
  %73 = icmp slt i32 %72, %33
  br i1 %73, label %for_loop_body, label %after_for
for_loop_body1:                                   ; preds = %for_loop_test4
  %74 = load i32, i32* %6, align 4
  %75 = load float, float* %5, align 4
  %76 = getelementptr { { i32, i32 }, float* }, { { i32, i32 }, float* }* %37, i32 0, i32 1
  %77 = load float*, float** %76, align 8
  %78 = getelementptr { { i32, i32 }, float* }, { { i32, i32 }, float* }* %37, i32 0, i32 0, i32 0
  %79 = load i32, i32* %78, align 4
  %80 = getelementptr { { i32, i32 }, float* }, { { i32, i32 }, float* }* %37, i32 0, i32 0, i32 1
  %81 = load i32, i32* %80, align 4
  %82 = mul i32 0, %79
  %83 = add i32 %82, %52
  %84 = mul i32 %83, %81
  %85 = add i32 %84, %74
  %wide86.p0 = sext i32 %52 to i64
  %wide86.i0 = add nsw i64 %wide86.p0, 0
  %wide86.p1 = sext i32 %74 to i64
  %wide86.i1 = add nsw i64 %wide86.p1, 0
  %wide86.s1 = sext i32 %81 to i64
  %wide86.m1 = mul nsw i64 %wide86.i0, %wide86.s1
  %wide86.t1 = add nsw i64 %wide86.m1, %wide86.i1
  %wide86 = add nsw i64 %wide86.t1, 0
  %86 = getelementptr float, float* %77, i64 %wide86
  %87 = load float, float* %86, align 4
  %88 = call float @llvm.maxnum.f32(float %75, float %87)
  store float %88, float* %5, align 4
  br label %for_loop_inc2
for_loop_inc2:                                    ; preds = %for_loop_body1
  %89 = load i32, i32* %6, align 4
  %90 = add i32 %89, 1
  store i32 %90, i32* %6, align 4
  br label %for_loop_test4
after_for3:                                       ; preds = %for_loop_test4
  store float 0.000000e+00, float* %7, align 4
  store float 0.000000e+00, float* %7, align 4
  store i32 0, i32* %8, align 4
  br label %for_loop_test8
for_loop_test4:                                   ; preds = %for_loop_inc2, %for_loop_body
  %91 = load i32, i32* %6, align 4
  %92 = icmp slt i32 %91, %69
  br i1 %92, label %for_loop_body1, label %after_for3
for_loop_body5:                                   ; preds = %for_loop_test8
  %93 = load i32, i32* %8, align 4
  %94 = getelementptr { { i32, i32 }, float* }, { { i32, i32 }, float* }* %37, i32 0, i32 1
  %95 = load float*, float** %94, align 8
  %96 = getelementptr { { i32, i32 }, float* }, { { i32, i32 }, float* }* %37, i32 0, i32 0, i32 0
  %97 = load i32, i32* %96, align 4
  %98 = getelementptr { { i32, i32 }, float* }, { { i32, i32 }, float* }* %37, i32 0, i32 0, i32 1
  %99 = load i32, i32* %98, align 4
  %100 = mul i32 0, %97
  %101 = add i32 %100, %52
  %102 = mul i32 %101, %99
  %103 = add i32 %102, %93
  %wide104.p0 = sext i32 %52 to i64
  %wide104.i0 = add nsw i64 %wide104.p0, 0
  %wide104.p1 = sext i32 %93 to i64
  %wide104.i1 = add nsw i64 %wide104.p1, 0
  %wide104.s1 = sext i32 %99 to i64
  %wide104.m1 = mul nsw i64 %wide104.i0, %wide104.s1
  %wide104.t1 = add nsw i64 %wide104.m1, %wide104.i1
  %wide104 = add nsw i64 %wide104.t1, 0
  %104 = getelementptr float, float* %95, i64 %wide104
  %105 = load float, float* %104, align 4
  %106 = load float, float* %5, align 4
  %107 = fsub contract float %105, %106
  %108 = call float @exp_f32(float %107)
  %109 = load float, float* %7, align 4
  %110 = fadd contract float %109, %108
  store float %110, float* %7, align 4
  br label %for_loop_inc6
for_loop_inc6:                                    ; preds = %for_loop_body5
  %111 = load i32, i32* %8, align 4
  %112 = add i32 %111, 1
  store i32 %112, i32* %8, align 4
  br label %for_loop_test8
after_for7:                                       ; preds = %for_loop_test8
  %113 = load float, float* %5, align 4
  %114 = load float, float* %7, align 4
  %115 = getelementptr { { i32 }, float* }, { { i32 }, float* }* %41, i32 0, i32 1
  %116 = load float*, float** %115, align 8
  %117 = getelementptr { { i32 }, float* }, { { i32 }, float* }* %41, i32 0, i32 0, i32 0
  %118 = load i32, i32* %117, align 4
  %119 = mul i32 0, %118
  %120 = add i32 %119, %52
  %wide121.p0 = sext i32 %52 to i64
  %wide121.i0 = add nsw i64 %wide121.p0, 0
  %wide121 = add nsw i64 %wide121.i0, 0
  %121 = getelementptr float, float* %116, i64 %wide121
  store i32 0, i32* %9, align 4
  br label %for_loop_test12
for_loop_test8:                                   ; preds = %for_loop_inc6, %after_for3
  %122 = load i32, i32* %8, align 4
  %123 = icmp slt i32 %122, %69
  br i1 %123, label %for_loop_body5, label %after_for7
for_loop_body9:                                   ; preds = %for_loop_test12
  %124 = load i32, i32* %9, align 4
  %125 = load float, float* %121, align 4
  %126 = getelementptr { { i32, i32 }, float* }, { { i32, i32 }, float* }* %37, i32 0, i32 1
  %127 = load float*, float** %126, align 8
  %128 = getelementptr { { i32, i32 }, float* }, { { i32, i32 }, float* }* %37, i32 0, i32 0, i32 0
  %129 = load i32, i32* %128, align 4
  %130 = getelementptr { { i32, i32 }, float* }, { { i32, i32 }, float* }* %37, i32 0, i32 0, i32 1
  %131 = load i32, i32* %130, align 4
  %132 = mul i32 0, %129
  %133 = add i32 %132, %52
  %134 = mul i32 %133, %131
  %135 = add i32 %134, %124
  %wide136.p0 = sext i32 %52 to i64
  %wide136.i0 = add nsw i64 %wide136.p0, 0
  %wide136.p1 = sext i32 %124 to i64
  %wide136.i1 = add nsw i64 %wide136.p1, 0
  %wide136.s1 = sext i32 %131 to i64
  %wide136.m1 = mul nsw i64 %wide136.i0, %wide136.s1
  %wide136.t1 = add nsw i64 %wide136.m1, %wide136.i1
  %wide136 = add nsw i64 %wide136.t1, 0
  %136 = getelementptr float, float* %127, i64 %wide136
  %137 = load float, float* %136, align 4
  %138 = fsub contract float %137, %113
  %139 = call float @exp_f32(float %138)
  %140 = fmul contract float %125, %139
  %141 = fdiv contract float %140, %114
  %142 = getelementptr { { i32, i32 }, float* }, { { i32, i32 }, float* }* %45, i32 0, i32 1
  %143 = load float*, float** %142, align 8
  %144 = getelementptr { { i32, i32 }, float* }, { { i32, i32 }, float* }* %45, i32 0, i32 0, i32 0
  %145 = load i32, i32* %144, align 4
  %146 = getelementptr { { i32, i32 }, float* }, { { i32, i32 }, float* }* %45, i32 0, i32 0, i32 1
  %147 = load i32, i32* %146, align 4
  %148 = mul i32 0, %145
  %149 = add i32 %148, %52
  %150 = mul i32 %149, %147
  %151 = add i32 %150, %124
  %wide152.p0 = sext i32 %52 to i64
  %wide152.i0 = add nsw i64 %wide152.p0, 0
  %wide152.p1 = sext i32 %124 to i64
  %wide152.i1 = add nsw i64 %wide152.p1, 0
  %wide152.s1 = sext i32 %147 to i64
  %wide152.m1 = mul nsw i64 %wide152.i0, %wide152.s1
  %wide152.t1 = add nsw i64 %wide152.m1, %wide152.i1
  %wide152 = add nsw i64 %wide152.t1, 0
  %152 = getelementptr float, float* %143, i64 %wide152
  store float %141, float* %152, align 4
  br label %for_loop_inc10
for_loop_inc10:                                   ; preds = %for_loop_body9
  %153 = load i32, i32* %9, align 4
  %154 = add i32 %153, 1
  store i32 %154, i32* %9, align 4
  br label %for_loop_test12
after_for11:                                      ; preds = %for_loop_test12
  %155 = load float, float* %121, align 4
  %neg = fneg contract float %155
  %156 = getelementptr { { i32 }, i32* }, { { i32 }, i32* }* %49, i32 0, i32 1
  %157 = load i32*, i32** %156, align 8
  %158 = getelementptr { { i32 }, i32* }, { { i32 }, i32* }* %49, i32 0, i32 0, i32 0
  %159 = load i32, i32* %158, align 4
  %160 = mul i32 0, %159
  %161 = add i32 %160, %52
  %wide162.p0 = sext i32 %52 to i64
  %wide162.i0 = add nsw i64 %wide162.p0, 0
  %wide162 = add nsw i64 %wide162.i0, 0
  %162 = getelementptr i32, i32* %157, i64 %wide162
  %163 = load i32, i32* %162, align 4
  %164 = getelementptr { { i32, i32 }, float* }, { { i32, i32 }, float* }* %45, i32 0, i32 1
  %165 = load float*, float** %164, align 8
  %166 = getelementptr { { i32, i32 }, float* }, { { i32, i32 }, float* }* %45, i32 0, i32 0, i32 0
  %167 = load i32, i32* %166, align 4
  %168 = getelementptr { { i32, i32 }, float* }, { { i32, i32 }, float* }* %45, i32 0, i32 0, i32 1
  %169 = load i32, i32* %168, align 4
  %170 = mul i32 0, %167
  %171 = add i32 %170, %52
  %172 = mul i32 %171, %169
  %173 = add i32 %172, %163
  %wide174.p0 = sext i32 %52 to i64
  %wide174.i0 = add nsw i64 %wide174.p0, 0
  %wide174.p1 = sext i32 %163 to i64
  %wide174.i1 = add nsw i64 %wide174.p1, 0
  %wide174.s1 = sext i32 %169 to i64
  %wide174.m1 = mul nsw i64 %wide174.i0, %wide174.s1
  %wide174.t1 = add nsw i64 %wide174.m1, %wide174.i1
  %wide174 = add nsw i64 %wide174.t1, 0
  %174 = getelementptr float, float* %165, i64 %wide174
  %175 = load float, float* %174, align 4
  %176 = fadd contract float %175, %neg
  store float %176, float* %174, align 4
  br label %for_loop_inc
for_loop_test12:                                  ; preds = %for_loop_inc10, %after_for7
  %177 = load i32, i32* %9, align 4
  %178 = icmp slt i32 %177, %69
  br i1 %178, label %for_loop_body9, label %after_for11
}
define hidden i32 @cross_entropy_float32_dynamic_vjp_logits_v3(i64 %rows, i64* %dims, i8** %arrays, i8* %workspace, %tiaot.host* %host) {
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
  %v10 = getelementptr i8*, i8** %arrays, i64 3
  %v11 = load i8*, i8** %v10
  %v12 = mul nsw i64 %v1, %v3
  %v13 = mul nsw i64 %v12, 4
  call void @llvm.memset.p0i8.i64(i8* %v11, i8 0, i64 %v13, i1 false)
  %v14 = getelementptr i8, i8* %workspace, i64 0
  %v15 = alloca i32
  store i32 0, i32* %v15
  %v16 = alloca [64 x i8], align 64
  %v17 = alloca [9 x i64]
  %v18 = ptrtoint i8* %v5 to i64
  %v19 = getelementptr [9 x i64], [9 x i64]* %v17, i64 0, i64 0
  store i64 %v18, i64* %v19
  %v20 = ptrtoint i8* %v7 to i64
  %v21 = getelementptr [9 x i64], [9 x i64]* %v17, i64 0, i64 1
  store i64 %v20, i64* %v21
  %v22 = ptrtoint i8* %v9 to i64
  %v23 = getelementptr [9 x i64], [9 x i64]* %v17, i64 0, i64 2
  store i64 %v22, i64* %v23
  %v24 = ptrtoint i8* %v11 to i64
  %v25 = getelementptr [9 x i64], [9 x i64]* %v17, i64 0, i64 3
  store i64 %v24, i64* %v25
  %v26 = getelementptr [9 x i64], [9 x i64]* %v17, i64 0, i64 4
  store i64 %v1, i64* %v26
  %v27 = getelementptr [9 x i64], [9 x i64]* %v17, i64 0, i64 5
  store i64 %v3, i64* %v27
  %v28 = ptrtoint [64 x i8]* %v16 to i64
  %v29 = getelementptr [9 x i64], [9 x i64]* %v17, i64 0, i64 6
  store i64 %v28, i64* %v29
  %v30 = ptrtoint i32* %v15 to i64
  %v31 = getelementptr [9 x i64], [9 x i64]* %v17, i64 0, i64 7
  store i64 %v30, i64* %v31
  %v32 = alloca [1024 x i8], align 64
  %v33 = bitcast [1024 x i8]* %v32 to i8*
  %v34 = bitcast [9 x i64]* %v17 to i8*
  call void @cross_entropy_float32_dynamic_vjp_logits_v3.task_0.piece(i8* %v34, i64 0)
  %v35 = bitcast [9 x i64]* %v17 to i8*
  %v36 = getelementptr [9 x i64], [9 x i64]* %v17, i64 0, i64 8
  %v37 = ptrtoint i8* %v33 to i64
  store i64 %v37, i64* %v36
  %task1.alone = icmp eq %tiaot.host* %host, null
  br i1 %task1.alone, label %task1.serial, label %task1.shared
task1.shared:
  %v38 = getelementptr %tiaot.host, %tiaot.host* %host, i32 0, i32 0
  %v39 = load void (i8*, i64, void (i8*, i64)*, i8*)*, void (i8*, i64, void (i8*, i64)*, i8*)** %v38
  %v40 = getelementptr %tiaot.host, %tiaot.host* %host, i32 0, i32 1
  %v41 = load i8*, i8** %v40
  call void %v39(i8* %v41, i64 16, void (i8*, i64)* @cross_entropy_float32_dynamic_vjp_logits_v3.task_1.piece, i8* %v35)
  br label %task1.end
task1.serial:
  call void @cross_entropy_float32_dynamic_vjp_logits_v3.task_1.piece(i8* %v35, i64 0)
  call void @cross_entropy_float32_dynamic_vjp_logits_v3.task_1.piece(i8* %v35, i64 1)
  call void @cross_entropy_float32_dynamic_vjp_logits_v3.task_1.piece(i8* %v35, i64 2)
  call void @cross_entropy_float32_dynamic_vjp_logits_v3.task_1.piece(i8* %v35, i64 3)
  call void @cross_entropy_float32_dynamic_vjp_logits_v3.task_1.piece(i8* %v35, i64 4)
  call void @cross_entropy_float32_dynamic_vjp_logits_v3.task_1.piece(i8* %v35, i64 5)
  call void @cross_entropy_float32_dynamic_vjp_logits_v3.task_1.piece(i8* %v35, i64 6)
  call void @cross_entropy_float32_dynamic_vjp_logits_v3.task_1.piece(i8* %v35, i64 7)
  call void @cross_entropy_float32_dynamic_vjp_logits_v3.task_1.piece(i8* %v35, i64 8)
  call void @cross_entropy_float32_dynamic_vjp_logits_v3.task_1.piece(i8* %v35, i64 9)
  call void @cross_entropy_float32_dynamic_vjp_logits_v3.task_1.piece(i8* %v35, i64 10)
  call void @cross_entropy_float32_dynamic_vjp_logits_v3.task_1.piece(i8* %v35, i64 11)
  call void @cross_entropy_float32_dynamic_vjp_logits_v3.task_1.piece(i8* %v35, i64 12)
  call void @cross_entropy_float32_dynamic_vjp_logits_v3.task_1.piece(i8* %v35, i64 13)
  call void @cross_entropy_float32_dynamic_vjp_logits_v3.task_1.piece(i8* %v35, i64 14)
  call void @cross_entropy_float32_dynamic_vjp_logits_v3.task_1.piece(i8* %v35, i64 15)
  br label %task1.end
task1.end:
  %v42 = load i32, i32* %v15
  ret i32 %v42
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
define internal float @"exp_f32"(float %".1") alwaysinline
{
.3:
  %".4" = fcmp olt float %".1", 0xc05a2b15c0000000
  %".5" = select  i1 %".4", float 0xc05a2b15c0000000, float %".1"
  %".6" = fcmp olt float 0x40563126e0000000, %".5"
  %".7" = select  i1 %".6", float 0x40563126e0000000, float %".5"
  %".8" = fmul contract float %".7", 0x3ff7154760000000
  %".9" = fadd contract float %".8", 0x4168002000000000
  %".10" = fsub contract float %".9", 0x4168002000000000
  %".11" = fmul contract float %".10", 0x3fe62e4000000000
  %".12" = fsub contract float %".7", %".11"
  %".13" = fmul contract float %".10", 0x3eb7f7d1c0000000
  %".14" = fsub contract float %".12", %".13"
  %".15" = fmul contract float %".14", %".14"
  %".16" = fmul contract float %".14", 0x3fc55548c0000000
  %".17" = fadd contract float 0x3fdfffffc0000000, %".16"
  %".18" = fmul contract float %".14", 0x3f8123cd40000000
  %".19" = fadd contract float 0x3fa55585a0000000, %".18"
  %".20" = fmul contract float %".14", %".14"
  %".21" = fmul contract float %".20", %".19"
  %".22" = fadd contract float %".17", %".21"
  %".23" = fmul contract float %".20", %".20"
  %".24" = fmul contract float %".23", 0x3f56aac660000000
  %".25" = fadd contract float %".22", %".24"
  %".26" = fmul contract float %".23", %".23"
  %".27" = fmul contract float %".15", %".25"
  %".28" = fadd contract float %".14", %".27"
  %".29" = bitcast float %".9" to i32
  %".30" = lshr i32 %".29", 1
  %".31" = shl i32 %".30", 23
  %".32" = sub i32 %".31", 8388608
  %".33" = bitcast i32 %".32" to float
  %".34" = sub i32 %".29", %".30"
  %".35" = shl i32 %".34", 23
  %".36" = sub i32 %".35", 8388608
  %".37" = bitcast i32 %".36" to float
  %".38" = fadd contract float 0x3ff0000000000000, %".28"
  %".39" = fmul contract float %".38", %".33"
  %".40" = fmul contract float %".39", %".37"
  ret float %".40"
}
declare float @llvm.maxnum.f32(float, float)
declare void @llvm.memcpy.p0i8.p0i8.i64(i8* noalias, i8* noalias, i64, i1)
declare void @llvm.memset.p0i8.i64(i8*, i8, i64, i1)
define hidden i64 @cross_entropy_float32_dynamic_vjp_logits_v3_workspace(i64 %rows, i64* %dims) {
  %v0 = getelementptr i64, i64* %dims, i64 0
  %v1 = load i64, i64* %v0
  %v2 = getelementptr i64, i64* %dims, i64 1
  %v3 = load i64, i64* %v2
  ret i64 0
}
