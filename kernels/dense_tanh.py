"""A dense layer with tanh, y = tanh(W x + b), for any sizes: the kernel that the project began with.

Small sizes are fixed: the loops over them are unrolled, the batch lies along the vector lanes, and the gradient is made
of the layer. For any other size the layer is a matrix product, which wants register tiles, and what a tile needs on the
way back would not stay in registers, so the backward kernels are written here, in the same tiles. A CPU takes block
after block through all steps; on CUDA each step is a loop over tiles, one for each thread.

With z = W x + b, y = tanh z and a cotangent v:  d = (1 - y^2) v,  grad_x = d W,  grad_W = sum d x^T,  grad_b = sum d.
"""

import taichi as ti
from tiaot.export import autodiff, by_level, family, written

# Rows and bytes of columns of a register tile, by the CPU level from which on they are so. Two vectors and 4 rows are 8
# sums for the 16 registers of x86-64-v3, where 6 rows spill; x86-64-v4 has 32 registers, and 8 rows are the fastest.
# Beside each sum the entries with tangents have its tangent: their tiles have half the rows.
TILES = {"x86-64-v2": (4, 64), "x86-64-v4": (8, 128)}
BLOCK = 64  # samples that go through all steps together: their z stays in the second-level cache
CUDA_TILES = {"float32": (8, 8), "float64": (4, 8)}  # rows and columns of a thread's tile: sums in its 255 registers
CHUNK = 1024  # samples that a thread sums on CUDA, in the gradients of W and b
FEW = 8  # below so many samples, packing W costs more than it saves


@family(
    "x[B, n], W[m, n], b[m] -> y[B, m]",
    batch="B",
    fixed=[{"n": 4, "m": 4}, {"n": 8, "m": 4}, {"n": 8, "m": 8}, {}],
    wrt=["x", "W b", "x W b"],
    derivatives=["jvp", "hvp"],
    cuda_derivatives=[],  # they would be more than half of the module
)
def dense_tanh(variant):
    """A dense layer with tanh: y = tanh(W x + b), for each sample of a batch."""
    if variant.sizes:
        return unrolled(variant, variant.sizes["n"], variant.sizes["m"])
    if variant.target == "cuda":
        return tiled_on_cuda(variant, *CUDA_TILES[variant.dtype])
    return by_level(
        {level: tiled(variant, *tile, along=tiled(variant, tile[0] // 2, tile[1])) for level, tile in TILES.items()}
    )


def unrolled(variant, n, m):
    @ti.kernel
    def forward(x: variant.array(2), W: variant.array(2), b: variant.array(1), y: variant.array(2)):
        ti.loop_config(serialize=True)
        for i in range(y.shape[0]):
            for j in ti.static(range(m)):
                z = b[j]
                for k in ti.static(range(n)):
                    z += W[j, k] * x[i, k]
                y[i, j] = ti.tanh(z)

    return autodiff(forward)


def tiled(variant, tile_rows, column_bytes, along=None):
    real = variant.type
    vector, matrix, panels = variant.array(1), variant.array(2), variant.array(3)
    columns = column_bytes // (4 if variant.dtype == "float32" else 8)
    few = min(columns, 16)  # neighbours in W that LLVM surely takes as such (-slp-max-vf in entry/lower.py)
    widths = tuple(dict.fromkeys((4 * columns, 2 * columns, columns, few)))

    @ti.func
    def pack_transposed(W: ti.template(), Wt: ti.template()):
        """Wt[u, k, c] = W[u * columns + c, k], zero beyond the last row: what a tile of z reads lies together."""
        m, n = W.shape[0], W.shape[1]
        for u in range(m // columns):
            for k in range(n):
                for c in ti.static(range(columns)):
                    Wt[u, k, c] = W[u * columns + c, k]
        if m % columns != 0:
            u = m // columns
            for k in range(n):
                for c in ti.static(range(columns)):
                    Wt[u, k, c] = ti.cast(0, real)
                for row in range(u * columns, m):
                    Wt[u, k, row - u * columns] = W[row, k]

    @ti.func
    def pack(A: ti.template(), first, count, Ap: ti.template()):
        """Ap[u, r, c] = A[first + r, u * columns + c], zero beyond the last column."""
        n = A.shape[1]
        for u in range(n // columns):
            for r in range(count):
                for c in ti.static(range(columns)):
                    Ap[u, r, c] = A[first + r, u * columns + c]
        if n % columns != 0:
            u = n // columns
            for r in range(count):
                for c in ti.static(range(columns)):
                    Ap[u, r, c] = ti.cast(0, real)
                for k in range(u * columns, n):
                    Ap[u, r, k - u * columns] = A[first + r, k]

    @ti.func
    def affine_block(x: ti.template(), Wt: ti.template(), m, first, count, z: ti.template()):
        """z[r, :] = W x[first + r]. The rows of the last tile are held at the last sample, and computed again."""
        n = x.shape[1]
        for u in range((m + columns - 1) // columns):
            for t in range((count + tile_rows - 1) // tile_rows):
                rows = ti.Vector([ti.min(t * tile_rows + r, count - 1) for r in range(tile_rows)])
                tile = ti.Matrix.zero(real, tile_rows, columns)
                for k in range(n):
                    for r in ti.static(range(tile_rows)):
                        for c in ti.static(range(columns)):
                            tile[r, c] += x[first + rows[r], k] * Wt[u, k, c]
                for r in ti.static(range(tile_rows)):
                    for c in ti.static(range(columns)):
                        z[rows[r], u * columns + c] = tile[r, c]

    @ti.func
    def affine_rows(x: ti.template(), W: ti.template(), first, count, z: ti.template()):
        """The same for a few samples, from W as it lies: sums along its rows, `few` of them side by side."""
        m, n = W.shape[0], W.shape[1]
        for r in range(count):
            for t in range((m + tile_rows - 1) // tile_rows):
                rows = ti.Vector([ti.min(t * tile_rows + j, m - 1) for j in range(tile_rows)])
                tile = ti.Matrix.zero(real, tile_rows, few)
                for s in range(n // few):
                    for j in ti.static(range(tile_rows)):
                        for c in ti.static(range(few)):
                            tile[j, c] += W[rows[j], s * few + c] * x[first + r, s * few + c]
                for j in ti.static(range(tile_rows)):
                    total = ti.cast(0, real)
                    for c in ti.static(range(few)):
                        total += tile[j, c]
                    for k in range(n // few * few, n):
                        total += W[rows[j], k] * x[first + r, k]
                    z[r, rows[j]] = total

    @ti.func
    def pull_back_tanh(b: ti.template(), grad_y: ti.template(), first, count, z: ti.template()):
        """z becomes d = (1 - tanh(z + b)^2) v, as 4 e / (1 + e)^2 v with e = exp(-2 |z + b|): nothing cancels."""
        for r in range(count):
            for j in range(b.shape[0]):
                e = ti.exp(-2 * ti.abs(z[r, j] + b[j]))
                z[r, j] = 4 * e / ((1 + e) * (1 + e)) * grad_y[first + r, j]

    @ti.func
    def grad_x_block(d: ti.template(), Wp: ti.template(), m, first, count, edge: ti.template(), grad_x: ti.template()):
        n = grad_x.shape[1]
        for u in range((n + columns - 1) // columns):
            for t in range((count + tile_rows - 1) // tile_rows):
                rows = ti.Vector([ti.min(t * tile_rows + r, count - 1) for r in range(tile_rows)])
                tile = ti.Matrix.zero(real, tile_rows, columns)
                for j in range(m):
                    for r in ti.static(range(tile_rows)):
                        for c in ti.static(range(columns)):
                            tile[r, c] += d[rows[r], j] * Wp[u, j, c]
                if (u + 1) * columns <= n:
                    for r in ti.static(range(tile_rows)):
                        for c in ti.static(range(columns)):
                            grad_x[first + rows[r], u * columns + c] = tile[r, c]
                else:
                    for r in ti.static(range(tile_rows)):
                        for c in ti.static(range(columns)):
                            edge[r, c] = tile[r, c]
                    for r in range(ti.min(tile_rows, count - t * tile_rows)):
                        for k in range(u * columns, n):
                            grad_x[first + t * tile_rows + r, k] = edge[r, k - u * columns]

    @ti.func
    def grad_x_columns(d: ti.template(), W: ti.template(), r, i, k, width: ti.template(), grad_x: ti.template()):
        """`width` columns of grad_x[i, :] = d[r, :] W, from column k on."""
        sums = ti.Vector.zero(real, width)
        for j in range(W.shape[0]):
            for c in ti.static(range(width)):
                sums[c] += d[r, j] * W[j, k + c]
        for c in ti.static(range(width)):
            grad_x[i, k + c] = sums[c]

    @ti.func
    def grad_x_rows(d: ti.template(), W: ti.template(), first, count, grad_x: ti.template()):
        """The same for a few samples, from W as it lies. What is left over lies in the last columns again."""
        m, n = W.shape[0], W.shape[1]
        for r in range(count):
            done = 0
            for width in ti.static(widths):
                for _ in range((n - done) // width):
                    grad_x_columns(d, W, r, first + r, done, width, grad_x)
                    done += width
            if n >= few:
                if done < n:
                    grad_x_columns(d, W, r, first + r, n - few, few, grad_x)
            else:
                for k in range(n):
                    total = ti.cast(0, real)
                    for j in range(m):
                        total += d[r, j] * W[j, k]
                    grad_x[first + r, k] = total

    @ti.func
    def grad_W_block(d: ti.template(), xp: ti.template(), m, count, edge: ti.template(), grad_W: ti.template()):
        n = grad_W.shape[1]
        for u in range((n + columns - 1) // columns):
            for t in range((m + tile_rows - 1) // tile_rows):
                rows = ti.Vector([ti.min(t * tile_rows + j, m - 1) for j in range(tile_rows)])
                tile = ti.Matrix.zero(real, tile_rows, columns)
                for r in range(count):
                    for j in ti.static(range(tile_rows)):
                        for c in ti.static(range(columns)):
                            tile[j, c] += d[r, rows[j]] * xp[u, r, c]
                if (u + 1) * columns <= n and (t + 1) * tile_rows <= m:
                    for j in ti.static(range(tile_rows)):
                        for c in ti.static(range(columns)):
                            grad_W[t * tile_rows + j, u * columns + c] += tile[j, c]
                else:
                    for j in ti.static(range(tile_rows)):
                        for c in ti.static(range(columns)):
                            edge[j, c] = tile[j, c]
                    for j in range(ti.min(tile_rows, m - t * tile_rows)):
                        for k in range(u * columns, ti.min(n, (u + 1) * columns)):
                            grad_W[t * tile_rows + j, k] += edge[j, k - u * columns]

    @ti.func
    def grad_W_rows(d: ti.template(), x: ti.template(), first, count, grad_W: ti.template()):
        for r in range(count):
            for j in range(grad_W.shape[0]):
                for k in range(grad_W.shape[1]):
                    grad_W[j, k] += d[r, j] * x[first + r, k]

    @ti.func
    def add_grad_b(d: ti.template(), count, grad_b: ti.template()):
        for r in range(count):
            for j in range(grad_b.shape[0]):
                grad_b[j] += d[r, j]

    @ti.kernel
    def forward(x: matrix, W: matrix, b: vector, y: matrix, Wt: panels, z: matrix):
        ti.loop_config(serialize=True)
        for _ in range(1):
            B, m = x.shape[0], W.shape[0]
            if B >= FEW:
                pack_transposed(W, Wt)
            for block in range((B + BLOCK - 1) // BLOCK):
                first = block * BLOCK
                count = ti.min(BLOCK, B - first)
                if B >= FEW:
                    affine_block(x, Wt, m, first, count, z)
                else:
                    affine_rows(x, W, first, count, z)
                for r in range(count):
                    for j in range(m):
                        y[first + r, j] = ti.tanh(z[r, j] + b[j])

    @ti.kernel
    def vjp_x(
        x: matrix, W: matrix, b: vector, grad_y: matrix, grad_x: matrix, Wt: panels, Wp: panels, z: matrix, edge: matrix
    ):
        ti.loop_config(serialize=True)
        for _ in range(1):
            B, m = x.shape[0], W.shape[0]
            if B >= FEW:
                pack_transposed(W, Wt)
                pack(W, 0, m, Wp)
            for block in range((B + BLOCK - 1) // BLOCK):
                first = block * BLOCK
                count = ti.min(BLOCK, B - first)
                if B >= FEW:
                    affine_block(x, Wt, m, first, count, z)
                    pull_back_tanh(b, grad_y, first, count, z)
                    grad_x_block(z, Wp, m, first, count, edge, grad_x)
                else:
                    affine_rows(x, W, first, count, z)
                    pull_back_tanh(b, grad_y, first, count, z)
                    grad_x_rows(z, W, first, count, grad_x)

    @ti.kernel
    def vjp_W_b(
        x: matrix,
        W: matrix,
        b: vector,
        grad_y: matrix,
        grad_W: matrix,
        grad_b: vector,
        Wt: panels,
        xp: panels,
        z: matrix,
        edge: matrix,
    ):
        ti.loop_config(serialize=True)
        for _ in range(1):
            B, m = x.shape[0], W.shape[0]
            if B >= FEW:
                pack_transposed(W, Wt)
            for block in range((B + BLOCK - 1) // BLOCK):
                first = block * BLOCK
                count = ti.min(BLOCK, B - first)
                if B >= FEW:
                    affine_block(x, Wt, m, first, count, z)
                    pull_back_tanh(b, grad_y, first, count, z)
                    pack(x, first, count, xp)
                    grad_W_block(z, xp, m, count, edge, grad_W)
                else:
                    affine_rows(x, W, first, count, z)
                    pull_back_tanh(b, grad_y, first, count, z)
                    grad_W_rows(z, x, first, count, grad_W)
                add_grad_b(z, count, grad_b)

    @ti.kernel
    def vjp_x_W_b(
        x: matrix,
        W: matrix,
        b: vector,
        grad_y: matrix,
        grad_x: matrix,
        grad_W: matrix,
        grad_b: vector,
        Wt: panels,
        Wp: panels,
        xp: panels,
        z: matrix,
        edge: matrix,
    ):
        ti.loop_config(serialize=True)
        for _ in range(1):
            B, m = x.shape[0], W.shape[0]
            if B >= FEW:
                pack_transposed(W, Wt)
                pack(W, 0, m, Wp)
            for block in range((B + BLOCK - 1) // BLOCK):
                first = block * BLOCK
                count = ti.min(BLOCK, B - first)
                if B >= FEW:
                    affine_block(x, Wt, m, first, count, z)
                    pull_back_tanh(b, grad_y, first, count, z)
                    grad_x_block(z, Wp, m, first, count, edge, grad_x)
                    pack(x, first, count, xp)
                    grad_W_block(z, xp, m, count, edge, grad_W)
                else:
                    affine_rows(x, W, first, count, z)
                    pull_back_tanh(b, grad_y, first, count, z)
                    grad_x_rows(z, W, first, count, grad_x)
                    grad_W_rows(z, x, first, count, grad_W)
                add_grad_b(z, count, grad_b)

    m_panels = f"(m + {columns - 1}) // {columns}"
    n_panels = f"(n + {columns - 1}) // {columns}"
    return written(
        forward,
        {"x": vjp_x, "W b": vjp_W_b, "x W b": vjp_x_W_b},
        scratch={
            "Wt": (m_panels, "n", columns),
            "Wp": (n_panels, "m", columns),
            "xp": (n_panels, BLOCK, columns),
            "z": (BLOCK, f"{m_panels} * {columns}"),
            "edge": (tile_rows, columns),
        },
        block_rows=512,
        along=along,
    )


def tiled_on_cuda(variant, rows_of, columns_of):
    real = variant.type
    vector, matrix, stack = variant.array(1), variant.array(2), variant.array(3)
    width = 4 if variant.dtype == "float32" else 2  # numbers that a thread moves at a time

    # What a thread reads four numbers at a time lies right for that: W and d are packed, with rows of whole groups of
    # `width`, and of x that is known where n is a multiple of `width`. Sizes go up to 2^31 - 1, the most that 32 bits
    # hold: nothing here is rounded up beyond one.

    @ti.func
    def tiles(size, length):
        return (size - 1) // length + 1

    @ti.func
    def within(tile, size, length: ti.template()):
        """The places of a tile along an axis, those beyond its end held at the last."""
        return ti.Vector([tile * length + ti.min(i, size - 1 - tile * length) for i in range(length)])

    @ti.func
    def groups(tile, size, length: ti.template()):
        """Where the groups of a tile start along a row; those beyond its end are held at the last. Place i of the tile
        is groups[i // width] + i % width: neighbours in memory, which an index shows that adds a constant."""
        per_tile, last = length // width, (size - 1) >> (width // 2)  # a division by 4 or 2
        return ti.Vector([ti.min(tile * per_tile + g, last) * width for g in range(length // width)])

    @ti.func
    def start(part, length, size):
        """Where a part of an axis starts, of parts that may reach beyond its end."""
        return part * length if part <= size // length else size

    @ti.func
    def pack(A: ti.template(), j, u, packed: ti.template()):
        """packed[j, :] = A[j, :], a tile's columns of it, the last one again beyond the end."""
        columns = groups(u, A.shape[1], columns_of)
        for c in ti.static(range(columns_of)):
            column = columns[c // width] + c % width
            packed[j, columns[c // width] + c % width] = A[j, ti.min(column, A.shape[1] - 1)]

    @ti.func
    def pack_transposed(W: ti.template(), k, u, Wt: ti.template()):
        """Wt[k, :] = W[:, k], likewise."""
        columns = groups(u, W.shape[0], columns_of)
        for c in ti.static(range(columns_of)):
            column = columns[c // width] + c % width
            Wt[k, columns[c // width] + c % width] = W[ti.min(column, W.shape[0] - 1), k]

    @ti.func
    def product(A: ti.template(), B: ti.template(), inner, rows, columns):
        """A tile of A B, of a packed B: sums over `inner` places, `width` of them at a time."""
        tile = ti.Matrix.zero(real, rows_of, columns_of)
        for h in range(inner // width):
            left = ti.Matrix.zero(real, rows_of, width)
            for r in ti.static(range(rows_of)):
                for q in ti.static(range(width)):
                    left[r, q] = A[rows[r], h * width + q]
            for q in ti.static(range(width)):
                for c in ti.static(range(columns_of)):
                    right = B[h * width + q, columns[c // width] + c % width]
                    for r in ti.static(range(rows_of)):
                        tile[r, c] += left[r, q] * right
        for k in range(inner // width * width, inner):
            for c in ti.static(range(columns_of)):
                right = B[k, columns[c // width] + c % width]
                for r in ti.static(range(rows_of)):
                    tile[r, c] += A[rows[r], k] * right
        return tile

    @ti.func
    def store(tile, rows, columns, whole, target: ti.template()):
        """Writes a tile, without what lies beyond the end of a row unless it is `whole`."""
        if whole:
            for r in ti.static(range(rows_of)):
                for c in ti.static(range(columns_of)):
                    target[rows[r], columns[c // width] + c % width] = tile[r, c]
        else:
            for c in ti.static(range(columns_of)):
                column = columns[c // width] + c % width
                if column < target.shape[1]:
                    for r in ti.static(range(rows_of)):
                        target[rows[r], column] = tile[r, c]

    @ti.func
    def pull_back_tanh(
        x: ti.template(), Wt: ti.template(), b: ti.template(), grad_y: ti.template(), t, u, d: ti.template()
    ):
        """A tile of d = (1 - tanh(W x + b)^2) v."""
        m = b.shape[0]
        rows, columns = within(t, x.shape[0], rows_of), groups(u, m, columns_of)
        tile = product(x, Wt, x.shape[1], rows, columns)
        for c in ti.static(range(columns_of)):
            column = ti.min(columns[c // width] + c % width, m - 1)
            for r in ti.static(range(rows_of)):
                y = ti.tanh(tile[r, c] + b[column])
                d[rows[r], columns[c // width] + c % width] = (1 - y * y) * grad_y[rows[r], column]

    @ti.func
    def grad_x_tile(d: ti.template(), Wp: ti.template(), m, t, u, grad_x: ti.template()):
        n = grad_x.shape[1]
        rows, columns = within(t, d.shape[0], rows_of), groups(u, n, columns_of)
        tile = product(d, Wp, m, rows, columns)
        store(tile, rows, columns, n - u * columns_of >= columns_of, grad_x)

    @ti.func
    def grad_W_tile(d: ti.template(), x: ti.template(), s, t, u, parts: ti.template()):
        """A tile of the sum of d x^T over part s of the batch."""
        B, m, n = x.shape[0], parts.shape[1], parts.shape[2]
        rows, columns = groups(t, m, rows_of), groups(u, n, columns_of)
        length = ti.max((B - 1) // parts.shape[0] + 1, 1)
        tile = ti.Matrix.zero(real, rows_of, columns_of)
        if (n & (width - 1)) == 0:
            for i in range(start(s, length, B), start(s + 1, length, B)):
                left = ti.Vector([d[i, rows[r // width] + r % width] for r in range(rows_of)])
                for c in ti.static(range(columns_of)):
                    right = x[i, columns[c // width] + c % width]
                    for r in ti.static(range(rows_of)):
                        tile[r, c] += left[r] * right
        else:
            held = ti.Vector([ti.min(columns[c // width] + c % width, n - 1) for c in range(columns_of)])
            for i in range(start(s, length, B), start(s + 1, length, B)):
                left = ti.Vector([d[i, rows[r // width] + r % width] for r in range(rows_of)])
                for c in ti.static(range(columns_of)):
                    right = x[i, held[c]]
                    for r in ti.static(range(rows_of)):
                        tile[r, c] += left[r] * right
        for r in ti.static(range(rows_of)):
            for c in ti.static(range(columns_of)):
                row, column = rows[r // width] + r % width, columns[c // width] + c % width
                if row < m and column < n:
                    parts[s, row, column] = tile[r, c]

    @ti.func
    def grad_b_part(d: ti.template(), s, j, parts: ti.template()):
        total = ti.cast(0, real)
        for i in range(start(s, CHUNK, d.shape[0]), start(s + 1, CHUNK, d.shape[0])):
            total += d[i, j]
        parts[s, j] = total

    @ti.func
    def sum_W_parts(parts: ti.template(), j, k, grad_W: ti.template()):
        """An element of the gradient of W: the sum over the batch's parts, in their order."""
        total = ti.cast(0, real)
        for s in range(parts.shape[0]):
            total += parts[s, j, k]
        grad_W[j, k] = total

    @ti.func
    def sum_b_parts(parts: ti.template(), j, grad_b: ti.template()):
        total = ti.cast(0, real)
        for s in range(parts.shape[0]):
            total += parts[s, j]
        grad_b[j] = total

    @ti.kernel
    def forward(x: matrix, W: matrix, b: vector, y: matrix, Wt: matrix):
        for k, u in ti.ndrange(W.shape[1], tiles(W.shape[0], columns_of)):
            pack_transposed(W, k, u, Wt)
        for t, u in ti.ndrange(tiles(x.shape[0], rows_of), tiles(W.shape[0], columns_of)):
            m = b.shape[0]
            rows, columns = within(t, x.shape[0], rows_of), groups(u, m, columns_of)
            tile = product(x, Wt, x.shape[1], rows, columns)
            for c in ti.static(range(columns_of)):
                bias = b[ti.min(columns[c // width] + c % width, m - 1)]
                for r in ti.static(range(rows_of)):
                    tile[r, c] = ti.tanh(tile[r, c] + bias)
            store(tile, rows, columns, m - u * columns_of >= columns_of, y)

    @ti.kernel
    def vjp_x(x: matrix, W: matrix, b: vector, grad_y: matrix, grad_x: matrix, Wt: matrix, Wp: matrix, d: matrix):
        for k, u in ti.ndrange(W.shape[1], tiles(W.shape[0], columns_of)):
            pack_transposed(W, k, u, Wt)
        for j, u in ti.ndrange(W.shape[0], tiles(W.shape[1], columns_of)):
            pack(W, j, u, Wp)
        for t, u in ti.ndrange(tiles(x.shape[0], rows_of), tiles(W.shape[0], columns_of)):
            pull_back_tanh(x, Wt, b, grad_y, t, u, d)
        for t, u in ti.ndrange(tiles(x.shape[0], rows_of), tiles(W.shape[1], columns_of)):
            grad_x_tile(d, Wp, W.shape[0], t, u, grad_x)

    @ti.kernel
    def vjp_W_b(
        x: matrix,
        W: matrix,
        b: vector,
        grad_y: matrix,
        grad_W: matrix,
        grad_b: vector,
        Wt: matrix,
        d: matrix,
        parts_W: stack,
        parts_b: matrix,
    ):
        for k, u in ti.ndrange(W.shape[1], tiles(W.shape[0], columns_of)):
            pack_transposed(W, k, u, Wt)
        for t, u in ti.ndrange(tiles(x.shape[0], rows_of), tiles(W.shape[0], columns_of)):
            pull_back_tanh(x, Wt, b, grad_y, t, u, d)
        for s, t, u in ti.ndrange(parts_W.shape[0], tiles(W.shape[0], rows_of), tiles(W.shape[1], columns_of)):
            grad_W_tile(d, x, s, t, u, parts_W)
        for s, j in ti.ndrange(parts_b.shape[0], W.shape[0]):
            grad_b_part(d, s, j, parts_b)
        for j, k in ti.ndrange(W.shape[0], W.shape[1]):
            sum_W_parts(parts_W, j, k, grad_W)
        for j in range(W.shape[0]):
            sum_b_parts(parts_b, j, grad_b)

    @ti.kernel
    def vjp_x_W_b(
        x: matrix,
        W: matrix,
        b: vector,
        grad_y: matrix,
        grad_x: matrix,
        grad_W: matrix,
        grad_b: vector,
        Wt: matrix,
        Wp: matrix,
        d: matrix,
        parts_W: stack,
        parts_b: matrix,
    ):
        for k, u in ti.ndrange(W.shape[1], tiles(W.shape[0], columns_of)):
            pack_transposed(W, k, u, Wt)
        for j, u in ti.ndrange(W.shape[0], tiles(W.shape[1], columns_of)):
            pack(W, j, u, Wp)
        for t, u in ti.ndrange(tiles(x.shape[0], rows_of), tiles(W.shape[0], columns_of)):
            pull_back_tanh(x, Wt, b, grad_y, t, u, d)
        for t, u in ti.ndrange(tiles(x.shape[0], rows_of), tiles(W.shape[1], columns_of)):
            grad_x_tile(d, Wp, W.shape[0], t, u, grad_x)
        for s, t, u in ti.ndrange(parts_W.shape[0], tiles(W.shape[0], rows_of), tiles(W.shape[1], columns_of)):
            grad_W_tile(d, x, s, t, u, parts_W)
        for s, j in ti.ndrange(parts_b.shape[0], W.shape[0]):
            grad_b_part(d, s, j, parts_b)
        for j, k in ti.ndrange(W.shape[0], W.shape[1]):
            sum_W_parts(parts_W, j, k, grad_W)
        for j in range(W.shape[0]):
            sum_b_parts(parts_b, j, grad_b)

    m_padded, n_padded = (f"({size} + {width - 1}) // {width} * {width}" for size in "mn")
    return written(
        forward,
        {"x": vjp_x, "W b": vjp_W_b, "x W b": vjp_x_W_b},
        scratch={
            "Wt": ("n", m_padded),
            "Wp": ("m", n_padded),
            "d": ("rows", m_padded),
            # Fewer parts where W is large, so that all of them hold at most 64 numbers more for each sample.
            "parts_W": (f"1 + rows // {CHUNK} * 65536 // (m * n + 65536)", "m", "n"),
            "parts_b": (f"(rows + {CHUNK - 1}) // {CHUNK}", "m"),
        },
        block_rows=None,
    )
