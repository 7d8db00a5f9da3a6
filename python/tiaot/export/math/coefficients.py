"""The constants of the math library. Printed by benchmarks/fit_math.py and not edited."""

LN2 = {  # a sum of two parts; the first has 16 and 42 bits
    "f32": (
        float.fromhex("0x1.62e4000000000p-1"),
        float.fromhex("0x1.7f7d1c0000000p-20"),
    ),
    "f64": (
        float.fromhex("0x1.62e42fefa3800p-1"),
        float.fromhex("0x1.ef35793c76730p-45"),
    ),
}

HALF_PI = {  # a sum of two parts; the first has 27 bits
    "f64": (
        float.fromhex("0x1.921fb54000000p+0"),
        float.fromhex("0x1.10b4611a62633p-30"),
    ),
}

# e^r - 1 = r + r^2 P(r), relative to e^r.
# Lowest power first, for -0.3466 <= argument <= 0.3466.
EXP = {
    "f32": (  # largest error 3.2e-09
        float.fromhex("0x1.fffffc0000000p-2"),
        float.fromhex("0x1.55548c0000000p-3"),
        float.fromhex("0x1.55585a0000000p-5"),
        float.fromhex("0x1.123cd40000000p-7"),
        float.fromhex("0x1.6aac660000000p-10"),
    ),
    "f64": (  # largest error 1.1e-17
        float.fromhex("0x1.000000000000ap-1"),
        float.fromhex("0x1.5555555555503p-3"),
        float.fromhex("0x1.5555555550602p-5"),
        float.fromhex("0x1.1111111124cfdp-7"),
        float.fromhex("0x1.6c16c184b6082p-10"),
        float.fromhex("0x1.a01a013d737a6p-13"),
        float.fromhex("0x1.a01998972ce41p-16"),
        float.fromhex("0x1.71dee64d5f1c0p-19"),
        float.fromhex("0x1.28aed83b609afp-22"),
        float.fromhex("0x1.ae158f0248046p-26"),
    ),
}

# tanh x = x + x z P(z), z = x^2, relative to tanh x.
# Lowest power first, for 0.0000 <= argument <= 0.5625.
TANH = {
    "f32": (  # largest error 1.7e-09
        float.fromhex("-0x1.55554a0000000p-2"),
        float.fromhex("0x1.110dda0000000p-3"),
        float.fromhex("-0x1.b981080000000p-5"),
        float.fromhex("0x1.5f907e0000000p-6"),
        float.fromhex("-0x1.f662b20000000p-8"),
        float.fromhex("0x1.c895f80000000p-10"),
    ),
    "f64": (  # largest error 1.5e-18
        float.fromhex("-0x1.555555555554ap-2"),
        float.fromhex("0x1.111111111046ap-3"),
        float.fromhex("-0x1.ba1ba1b97e2cdp-5"),
        float.fromhex("0x1.664f4863e8520p-6"),
        float.fromhex("-0x1.226e31cc36dd5p-7"),
        float.fromhex("0x1.d6d3486b6d6ccp-9"),
        float.fromhex("-0x1.7d9c7a9b3903fp-10"),
        float.fromhex("0x1.3519683b13eb1p-11"),
        float.fromhex("-0x1.f254096c53c85p-13"),
        float.fromhex("0x1.87f000d4c1cc0p-14"),
        float.fromhex("-0x1.1a05354fafe45p-15"),
        float.fromhex("0x1.3e90232ad717bp-17"),
        float.fromhex("-0x1.8eeb557e3c541p-20"),
    ),
}

# log(1 + f) = 2 s + s z P(z), s = f / (2 + f), z = s^2, relative to log(1 + f).
# Lowest power first, for 0.0000 <= argument <= 0.0294.
LOG = {
    "f32": (  # largest error 8.1e-10
        float.fromhex("0x1.55557a0000000p-1"),
        float.fromhex("0x1.995ed80000000p-2"),
        float.fromhex("0x1.31e03a0000000p-2"),
    ),
    "f64": (  # largest error 1.2e-18
        float.fromhex("0x1.5555555555592p-1"),
        float.fromhex("0x1.999999997ff4dp-2"),
        float.fromhex("0x1.24924941dd089p-2"),
        float.fromhex("0x1.c71c52187955dp-3"),
        float.fromhex("0x1.74663bfe1cf86p-3"),
        float.fromhex("0x1.39a202301c05bp-3"),
        float.fromhex("0x1.2f02b298c26c4p-3"),
    ),
}

# sin r = r + r z P(z), z = r^2, relative to sin r.
# Lowest power first, for 0.0000 <= argument <= 0.6169.
SIN = {
    "f32": (  # largest error 4.0e-09
        float.fromhex("-0x1.5555460000000p-3"),
        float.fromhex("0x1.1107780000000p-7"),
        float.fromhex("-0x1.9954020000000p-13"),
    ),
    "f64": (  # largest error 3.8e-18
        float.fromhex("-0x1.5555555555548p-3"),
        float.fromhex("0x1.111111110f730p-7"),
        float.fromhex("-0x1.a01a019be932ep-13"),
        float.fromhex("0x1.71de35554d3b0p-19"),
        float.fromhex("-0x1.ae5e4bae93067p-26"),
        float.fromhex("0x1.5d8b6738036b6p-33"),
    ),
}

# cos r = 1 - z/2 + z^2 P(z), z = r^2, relative to cos r.
# Lowest power first, for 0.0000 <= argument <= 0.6169.
COS = {
    "f32": (  # largest error 1.2e-10
        float.fromhex("0x1.55554a0000000p-5"),
        float.fromhex("-0x1.6c0c280000000p-10"),
        float.fromhex("0x1.99e8080000000p-16"),
    ),
    "f64": (  # largest error 5.7e-20
        float.fromhex("0x1.555555555554bp-5"),
        float.fromhex("-0x1.6c16c16c15014p-10"),
        float.fromhex("0x1.a01a019c8efb0p-16"),
        float.fromhex("-0x1.27e4f7f169973p-22"),
        float.fromhex("0x1.1ee9dbaf2afccp-29"),
        float.fromhex("-0x1.8fa67207f78ccp-37"),
    ),
}

# asin x = x + x z P(z), z = x^2, relative to asin x.
# Lowest power first, for 0.0000 <= argument <= 0.2500.
ASIN = {
    "f32": (  # largest error 4.9e-09
        float.fromhex("0x1.5555c80000000p-3"),
        float.fromhex("0x1.3302040000000p-4"),
        float.fromhex("0x1.747bda0000000p-5"),
        float.fromhex("0x1.8c3b680000000p-6"),
        float.fromhex("0x1.59602e0000000p-5"),
    ),
    "f64": (  # largest error 1.5e-17
        float.fromhex("0x1.5555555555390p-3"),
        float.fromhex("0x1.333333336e873p-4"),
        float.fromhex("0x1.6db6db4273f60p-5"),
        float.fromhex("0x1.f1c72c3b8fb27p-6"),
        float.fromhex("0x1.6e89f3f7ed39fp-6"),
        float.fromhex("0x1.1c6be669fcf86p-6"),
        float.fromhex("0x1.c6fd5ad7af7aap-7"),
        float.fromhex("0x1.8ec5d1e55f598p-7"),
        float.fromhex("0x1.abb55accdd312p-8"),
        float.fromhex("0x1.400761bc338d1p-6"),
        float.fromhex("-0x1.09f1dbea636fdp-6"),
        float.fromhex("0x1.05785e46335c7p-5"),
    ),
}

# atan x = x + x z P(z), z = x^2, relative to atan x.
# Lowest power first, for 0.0000 <= argument <= 0.1716.
ATAN = {
    "f32": (  # largest error 7.0e-10
        float.fromhex("-0x1.55554a0000000p-2"),
        float.fromhex("0x1.9991e20000000p-3"),
        float.fromhex("-0x1.23b9a00000000p-3"),
        float.fromhex("0x1.b2241a0000000p-4"),
        float.fromhex("-0x1.f2e3f80000000p-5"),
    ),
    "f64": (  # largest error 1.3e-18
        float.fromhex("-0x1.555555555553dp-2"),
        float.fromhex("0x1.9999999995863p-3"),
        float.fromhex("-0x1.24924922ad14ap-3"),
        float.fromhex("0x1.c71c70e5ea961p-4"),
        float.fromhex("-0x1.745cf8d7c1641p-4"),
        float.fromhex("0x1.3b1118c3fd9d2p-4"),
        float.fromhex("-0x1.10ebb43bddbf0p-4"),
        float.fromhex("0x1.df0f0fa04fa04p-5"),
        float.fromhex("-0x1.9cd1afbd4487fp-5"),
        float.fromhex("0x1.37d2fac230e06p-5"),
        float.fromhex("-0x1.25648d6bb2bb5p-6"),
    ),
}
