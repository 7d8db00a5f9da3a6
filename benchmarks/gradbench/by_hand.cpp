// by_hand.cpp: the problems and their gradients as one writes them in C++. Plain C functions, called through ctypes.
//
// Each problem has NAME_primal and NAME_gradient; the arguments are those of the kernel, then the results. A gradient
// is overwritten. Working memory is kept from call to call: one thread calls.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

namespace {

using Index = std::int64_t;

double *room(std::vector<double> &memory, Index size) {
  if (Index(memory.size()) < size) memory.resize(size);
  return memory.data();
}

double largest(const double *x, Index n) {
  double most = x[0];
#pragma omp simd reduction(max : most)
  for (Index i = 0; i < n; ++i) most = std::max(most, x[i]);
  return most;
}

double sum_of_exponentials(const double *x, Index n, double most) {
  double total = 0;
#pragma omp simd reduction(+ : total)
  for (Index i = 0; i < n; ++i) total += std::exp(x[i] - most);
  return total;
}

}  // namespace

// ---- log-sum-exp

extern "C" void log_sum_exp_primal(Index n, const double *x, double *y) {
  double most = largest(x, n);
  *y = most + std::log(sum_of_exponentials(x, n, most));
}

extern "C" void log_sum_exp_gradient(Index n, const double *x, double *gradient) {
  double most = largest(x, n), total = 0;
#pragma omp simd reduction(+ : total)
  for (Index i = 0; i < n; ++i) total += gradient[i] = std::exp(x[i] - most);
  for (Index i = 0; i < n; ++i) gradient[i] /= total;
}

// ---- least squares

namespace {

double left_over(Index m, const double *x, double t) {
  double left = t > 0 ? 1 : -1, power = 1;
  for (Index j = 0; j < m; ++j) {
    left -= x[j] * power;
    power *= t;
  }
  return left;
}

}  // namespace

extern "C" void least_squares_primal(Index m, const double *x, Index n, double *y) {
  *y = 0;
  for (Index i = 0; i < n; ++i) {
    double left = left_over(m, x, -1 + 2.0 * i / (n - 1.0));
    *y += 0.5 * left * left;
  }
}

extern "C" void least_squares_gradient(Index m, const double *x, Index n, double *gradient) {
  std::fill(gradient, gradient + m, 0.0);
  for (Index i = 0; i < n; ++i) {
    double t = -1 + 2.0 * i / (n - 1.0), left = left_over(m, x, t), power = left;
    for (Index j = 0; j < m; ++j) {
      gradient[j] -= power;
      power *= t;
    }
  }
}

// ---- Gaussian mixture

namespace {

struct Mixture {
  Index k, d, t, n;
  const double *alpha, *mean, *factor, *x;
  double gamma, m;
};

// The terms of one point, and for its gradient z = L (x - mean) by component; diagonal has the exponentials.
void terms(const Mixture &g, const double *diagonal, const double *sums, const double *x, double *term, double *z) {
  for (Index c = 0; c < g.k; ++c) {
    const double *mean = g.mean + c * g.d, *below = g.factor + c * g.t + g.d, *q = diagonal + c * g.d;
    double squares = 0;
    for (Index r = 0; r < g.d; ++r) {
      double value = q[r] * (x[r] - mean[r]);
      for (Index s = 0; s < r; ++s) value += *below++ * (x[s] - mean[s]);
      z[c * g.d + r] = value;
      squares += value * value;
    }
    term[c] = g.alpha[c] + sums[c] - 0.5 * squares;
  }
}

void exponentials(const Mixture &g, double *diagonal, double *sums) {
  for (Index c = 0; c < g.k; ++c) {
    sums[c] = 0;
    for (Index r = 0; r < g.d; ++r) {
      diagonal[c * g.d + r] = std::exp(g.factor[c * g.t + r]);
      sums[c] += g.factor[c * g.t + r];
    }
  }
}

std::vector<double> mixture_memory;

}  // namespace

extern "C" void gaussian_mixture_primal(Index k, Index d, Index t, Index n, const double *alpha, const double *mean,
                                        const double *factor, const double *x, double gamma, double m, double *y) {
  Mixture g{k, d, t, n, alpha, mean, factor, x, gamma, m};
  double *diagonal = room(mixture_memory, 2 * k * d + 2 * k), *sums = diagonal + k * d, *term = sums + k, *z = term + k;
  exponentials(g, diagonal, sums);
  double total = 0;
  for (Index i = 0; i < n; ++i) {
    terms(g, diagonal, sums, x + i * d, term, z);
    double most = largest(term, k);
    total += most + std::log(sum_of_exponentials(term, k, most));
  }
  double most = largest(alpha, k);
  total -= n * (most + std::log(sum_of_exponentials(alpha, k, most)));
  for (Index c = 0; c < k; ++c) {
    for (Index r = 0; r < d; ++r)
      total += 0.5 * gamma * gamma * diagonal[c * d + r] * diagonal[c * d + r] - m * factor[c * t + r];
    for (Index r = d; r < t; ++r) total += 0.5 * gamma * gamma * factor[c * t + r] * factor[c * t + r];
  }
  *y = total;
}

extern "C" void gaussian_mixture_gradient(Index k, Index d, Index t, Index n, const double *alpha, const double *mean,
                                          const double *factor, const double *x, double gamma, double m,
                                          double *by_alpha, double *by_mean, double *by_factor) {
  Mixture g{k, d, t, n, alpha, mean, factor, x, gamma, m};
  double *diagonal = room(mixture_memory, 2 * k * d + 2 * k), *sums = diagonal + k * d, *term = sums + k, *z = term + k;
  exponentials(g, diagonal, sums);
  std::fill(by_mean, by_mean + k * d, 0.0);
  double most = largest(alpha, k), total = sum_of_exponentials(alpha, k, most);
  for (Index c = 0; c < k; ++c) {
    by_alpha[c] = -n * std::exp(alpha[c] - most) / total;
    for (Index r = 0; r < d; ++r) by_factor[c * t + r] = gamma * gamma * diagonal[c * d + r] * diagonal[c * d + r] - m;
    for (Index r = d; r < t; ++r) by_factor[c * t + r] = gamma * gamma * factor[c * t + r];
  }
  for (Index i = 0; i < n; ++i) {
    const double *point = x + i * d;
    terms(g, diagonal, sums, point, term, z);
    double most = largest(term, k), total = 0;
    for (Index c = 0; c < k; ++c) total += term[c] = std::exp(term[c] - most);
    for (Index c = 0; c < k; ++c) {
      double share = term[c] / total;
      by_alpha[c] += share;
      const double *below = factor + c * t + d, *q = diagonal + c * d, *centre = mean + c * d, *w = z + c * d;
      double *by_below = by_factor + c * t + d, *by_diagonal = by_factor + c * t, *by_centre = by_mean + c * d;
      for (Index r = 0; r < d; ++r) {
        double slope = -share * w[r];
        by_diagonal[r] += share + slope * q[r] * (point[r] - centre[r]);
        by_centre[r] -= slope * q[r];
        for (Index s = 0; s < r; ++s) {
          *by_below++ += slope * (point[s] - centre[s]);
          by_centre[s] -= slope * *below++;
        }
      }
    }
  }
}

// ---- k-means

namespace {

double distance(Index d, const double *a, const double *b) {
  double total = 0;
  for (Index j = 0; j < d; ++j) total += (a[j] - b[j]) * (a[j] - b[j]);
  return total;
}

}  // namespace

extern "C" void k_means_primal(Index n, Index d, Index k, const double *point, const double *centre, double *y) {
  *y = 0;
  for (Index i = 0; i < n; ++i) {
    double nearest = 1e300;
    for (Index c = 0; c < k; ++c) nearest = std::min(nearest, distance(d, point + i * d, centre + c * d));
    *y += nearest;
  }
}

extern "C" void k_means_gradient(Index n, Index d, Index k, const double *point, const double *centre,
                                 double *gradient) {
  std::fill(gradient, gradient + k * d, 0.0);
  for (Index i = 0; i < n; ++i) {
    double nearest = 1e300;
    Index which = 0;
    for (Index c = 0; c < k; ++c) {
      double apart = distance(d, point + i * d, centre + c * d);
      if (apart < nearest) {
        nearest = apart;
        which = c;
      }
    }
    for (Index j = 0; j < d; ++j) gradient[which * d + j] -= 2 * (point[i * d + j] - centre[which * d + j]);
  }
}

// ---- bundle adjustment

namespace {

struct Vector {
  double x, y, z;
};
Vector operator+(Vector a, Vector b) { return {a.x + b.x, a.y + b.y, a.z + b.z}; }
Vector operator*(double s, Vector a) { return {s * a.x, s * a.y, s * a.z}; }
double dot(Vector a, Vector b) { return a.x * b.x + a.y * b.y + a.z * b.z; }
Vector cross(Vector a, Vector b) { return {a.y * b.z - a.z * b.y, a.z * b.x - a.x * b.z, a.x * b.y - a.y * b.x}; }

// What the gradient needs of one observation.
struct View {
  Vector r, x, w, turned;
  double theta, sine, cosine, p, q, radius, bent, plain[2];
};

View look(const double *camera, const double *point) {
  View v;
  v.r = {camera[0], camera[1], camera[2]};
  v.x = {point[0] - camera[3], point[1] - camera[4], point[2] - camera[5]};
  double squared = dot(v.r, v.r);
  v.theta = std::sqrt(squared);
  if (squared > 0) {
    v.w = (1 / v.theta) * v.r;
    v.sine = std::sin(v.theta);
    v.cosine = std::cos(v.theta);
    v.turned = v.cosine * v.x + v.sine * cross(v.w, v.x) + dot(v.w, v.x) * (1 - v.cosine) * v.w;
  } else {
    v.turned = v.x + cross(v.r, v.x);
  }
  v.p = v.turned.x / v.turned.z;
  v.q = v.turned.y / v.turned.z;
  v.radius = v.p * v.p + v.q * v.q;
  v.bent = 1 + camera[9] * v.radius + camera[10] * v.radius * v.radius;
  v.plain[0] = camera[6] * v.bent * v.p + camera[7];
  v.plain[1] = camera[6] * v.bent * v.q + camera[8];
  return v;
}

// The gradient of one error, from 0 for the first: by the camera, the point and the weight.
void pull(const View &v, const double *camera, double weight, const double *feature, int which, double *by_camera,
          double *by_point, double *by_weight) {
  *by_weight = v.plain[which] - feature[which];
  double place = which ? v.q : v.p, focal = camera[6];
  by_camera[6] = weight * v.bent * place;
  by_camera[7] = which ? 0 : weight;
  by_camera[8] = which ? weight : 0;
  double by_bent = weight * focal * place;
  by_camera[9] = by_bent * v.radius;
  by_camera[10] = by_bent * v.radius * v.radius;
  double by_radius = by_bent * (camera[9] + 2 * camera[10] * v.radius);
  double by_p = 2 * by_radius * v.p + (which ? 0 : weight * focal * v.bent);
  double by_q = 2 * by_radius * v.q + (which ? weight * focal * v.bent : 0);
  double inverse = 1 / v.turned.z;
  Vector g{by_p * inverse, by_q * inverse, -(by_p * v.p + by_q * v.q) * inverse}, by_x, by_r;
  if (v.theta > 0) {
    double along = dot(v.w, v.x), by_along = (1 - v.cosine) * dot(v.w, g);
    by_x = v.cosine * g + v.sine * cross(g, v.w) + by_along * v.w;
    Vector by_w = v.sine * cross(v.x, g) + by_along * v.x + along * (1 - v.cosine) * g;
    double by_theta = -v.sine * dot(v.x, g) + v.cosine * dot(cross(v.w, v.x), g) + along * v.sine * dot(v.w, g);
    by_r = (1 / v.theta) * by_w + (by_theta - dot(by_w, v.w) / v.theta) * v.w;
  } else {
    by_x = g + cross(g, v.r);
    by_r = cross(v.x, g);
  }
  by_camera[0] = by_r.x, by_camera[1] = by_r.y, by_camera[2] = by_r.z;
  by_camera[3] = -by_x.x, by_camera[4] = -by_x.y, by_camera[5] = -by_x.z;
  by_point[0] = by_x.x, by_point[1] = by_x.y, by_point[2] = by_x.z;
}

}  // namespace

extern "C" void bundle_adjustment_primal(Index observations, const double *cameras, const double *points,
                                         const std::int32_t *seen, const double *weight, const double *feature,
                                         double *error) {
  for (Index i = 0; i < observations; ++i) {
    View v = look(cameras + 11 * seen[2 * i], points + 3 * seen[2 * i + 1]);
    for (int j = 0; j < 2; ++j) error[2 * i + j] = weight[i] * (v.plain[j] - feature[2 * i + j]);
  }
}

extern "C" void bundle_adjustment_gradient(Index observations, const double *cameras, const double *points,
                                           const std::int32_t *seen, const double *weight, const double *feature,
                                           double *by_camera, double *by_point, double *by_weight) {
  for (Index i = 0; i < observations; ++i) {
    const double *camera = cameras + 11 * seen[2 * i];
    View v = look(camera, points + 3 * seen[2 * i + 1]);
    for (int j = 0; j < 2; ++j) {
      Index row = 2 * i + j;
      pull(v, camera, weight[i], feature + 2 * i, j, by_camera + 11 * row, by_point + 3 * row, by_weight + row);
    }
  }
}

// ---- LSTM

namespace {

double sigmoid(double z) { return 1 / (1 + std::exp(-z)); }

// What the gradient needs of one entry of one layer at one time.
struct Cell {
  double signal, hidden, state, forget, accept, give, change, bent;
};

std::vector<double> network_memory;
std::vector<Cell> network_cells;

// The loss; with `cells`, room for all of them, and `guesses`, for all predictions, these are kept.
double run_network(Index layers, Index d, Index length, const double *weight, const double *bias, const double *extra,
                   const double *hidden, const double *cell, const double *sequence, Cell *cells, double *guesses) {
  double *h = room(network_memory, 2 * layers * d + 2 * d), *s = h + layers * d, *signal = s + layers * d,
         *guess = signal + d;
  std::copy(hidden, hidden + layers * d, h);
  std::copy(cell, cell + layers * d, s);
  double loss = 0;
  for (Index t = 0; t + 1 < length; ++t) {
    for (Index j = 0; j < d; ++j) signal[j] = sequence[t * d + j] * extra[j];
    for (Index l = 0; l < layers; ++l) {
      const double *w = weight + l * 4 * d, *b = bias + l * 4 * d;
      for (Index j = 0; j < d; ++j) {
        Index at = l * d + j;
        Cell c{signal[j], h[at], s[at], 0, 0, 0, 0, 0};
        c.forget = sigmoid(c.signal * w[j] + b[j]);
        c.accept = sigmoid(c.hidden * w[d + j] + b[d + j]);
        c.give = sigmoid(c.signal * w[2 * d + j] + b[2 * d + j]);
        c.change = std::tanh(c.hidden * w[3 * d + j] + b[3 * d + j]);
        s[at] = c.state * c.forget + c.accept * c.change;
        c.bent = std::tanh(s[at]);
        h[at] = signal[j] = c.give * c.bent;
        if (cells) cells[(t * layers + l) * d + j] = c;
      }
    }
    double total = 2;
    for (Index j = 0; j < d; ++j) {
      guess[j] = signal[j] * extra[d + j] + extra[2 * d + j];
      total += std::exp(guess[j]);
    }
    double most = std::log(total);
    for (Index j = 0; j < d; ++j) {
      loss -= sequence[(t + 1) * d + j] * (guess[j] - most);
      if (guesses) guesses[t * d + j] = std::exp(guess[j]) / total;
    }
  }
  return loss / (d * (length - 1.0));
}

}  // namespace

extern "C" void long_short_term_memory_primal(Index layers, Index d, Index length, const double *weight,
                                              const double *bias, const double *extra, const double *hidden,
                                              const double *cell, const double *sequence, double *y) {
  *y = run_network(layers, d, length, weight, bias, extra, hidden, cell, sequence, nullptr, nullptr);
}

extern "C" void long_short_term_memory_gradient(Index layers, Index d, Index length, const double *weight,
                                                const double *bias, const double *extra, const double *hidden,
                                                const double *cell, const double *sequence, double *by_weight,
                                                double *by_bias, double *by_extra) {
  static std::vector<double> memory;
  network_cells.resize(length * layers * d);
  double *shares = room(memory, length * d + 2 * layers * d + d), *by_h = shares + length * d,
         *by_s = by_h + layers * d, *by_signal = by_s + layers * d;
  run_network(layers, d, length, weight, bias, extra, hidden, cell, sequence, network_cells.data(), shares);
  std::fill(by_h, by_h + 2 * layers * d, 0.0);
  std::fill(by_weight, by_weight + layers * 4 * d, 0.0);
  std::fill(by_bias, by_bias + layers * 4 * d, 0.0);
  std::fill(by_extra, by_extra + 3 * d, 0.0);
  double scale = 1 / (d * (length - 1.0));
  for (Index t = length - 2; t >= 0; --t) {
    double all = 0;
    for (Index j = 0; j < d; ++j) all += sequence[(t + 1) * d + j];
    for (Index j = 0; j < d; ++j) {
      double by_guess = scale * (all * shares[t * d + j] - sequence[(t + 1) * d + j]);
      const Cell &c = network_cells[(t * layers + layers - 1) * d + j];
      by_extra[d + j] += by_guess * c.give * c.bent;
      by_extra[2 * d + j] += by_guess;
      by_signal[j] = by_guess * extra[d + j];
    }
    for (Index l = layers - 1; l >= 0; --l) {
      const double *w = weight + l * 4 * d;
      double *gw = by_weight + l * 4 * d, *gb = by_bias + l * 4 * d;
      for (Index j = 0; j < d; ++j) {
        Index at = l * d + j;
        const Cell &c = network_cells[(t * layers + l) * d + j];
        double by_out = by_h[at] + by_signal[j];
        double by_state = by_s[at] + by_out * c.give * (1 - c.bent * c.bent);
        double by_give = by_out * c.bent * c.give * (1 - c.give);
        double by_forget = by_state * c.state * c.forget * (1 - c.forget);
        double by_accept = by_state * c.change * c.accept * (1 - c.accept);
        double by_change = by_state * c.accept * (1 - c.change * c.change);
        by_s[at] = by_state * c.forget;
        gb[j] += by_forget;
        gb[d + j] += by_accept;
        gb[2 * d + j] += by_give;
        gb[3 * d + j] += by_change;
        gw[j] += by_forget * c.signal;
        gw[d + j] += by_accept * c.hidden;
        gw[2 * d + j] += by_give * c.signal;
        gw[3 * d + j] += by_change * c.hidden;
        by_signal[j] = by_forget * w[j] + by_give * w[2 * d + j];
        by_h[at] = by_accept * w[d + j] + by_change * w[3 * d + j];
      }
    }
    for (Index j = 0; j < d; ++j) by_extra[j] += by_signal[j] * sequence[t * d + j];
  }
}

// ---- differential equation

namespace {

void slope(Index n, const double *x, const double *y, const double *k, double h, double *result) {
  result[0] = x[0];
  for (Index i = 1; i < n; ++i) result[i] = x[i] * (y[i - 1] + (k ? h * k[i - 1] : 0));
}

// With `kept`, room for steps * 5 * n numbers, y and the four slopes of each step are kept.
void solve(Index n, const double *x, Index steps, double *y, double *kept) {
  static std::vector<double> memory;
  double h = 2.0 / steps, *k = room(memory, 4 * n);
  std::fill(y, y + n, 0.0);
  for (Index step = 0; step < steps; ++step) {
    if (kept) {
      std::copy(y, y + n, kept + step * 5 * n);
      k = kept + step * 5 * n + n;
    }
    slope(n, x, y, nullptr, 0, k);
    slope(n, x, y, k, h / 2, k + n);
    slope(n, x, y, k + n, h / 2, k + 2 * n);
    slope(n, x, y, k + 2 * n, h, k + 3 * n);
    for (Index i = 0; i < n; ++i) y[i] += h / 6 * (k[i] + 2 * k[n + i] + 2 * k[2 * n + i] + k[3 * n + i]);
  }
}

// The adjoint of slope(): by_y and by_k are added to.
void pull_slope(Index n, const double *x, const double *y, const double *k, double h, const double *by_result,
                double *by_x, double *by_y, double *by_k) {
  by_x[0] += by_result[0];
  for (Index i = 1; i < n; ++i) {
    by_x[i] += by_result[i] * (y[i - 1] + (k ? h * k[i - 1] : 0));
    by_y[i - 1] += by_result[i] * x[i];
    if (k) by_k[i - 1] += h * by_result[i] * x[i];
  }
}

}  // namespace

extern "C" void differential_equation_primal(Index n, const double *x, Index steps, double *y) {
  solve(n, x, steps, y, nullptr);
}

extern "C" void differential_equation_gradient(Index n, const double *x, Index steps, double *by_x) {
  static std::vector<double> memory;
  double *kept = room(memory, steps * 5 * n + 6 * n), *y = kept + steps * 5 * n, *by_y = y + n, *by_k = by_y + n;
  solve(n, x, steps, y, kept);
  std::fill(by_x, by_x + n, 0.0);
  std::fill(by_y, by_y + n, 0.0);
  by_y[n - 1] = 1;
  double h = 2.0 / steps;
  for (Index step = steps - 1; step >= 0; --step) {
    const double *at = kept + step * 5 * n, *k = at + n;
    for (Index i = 0; i < n; ++i) {
      by_k[i] = by_k[3 * n + i] = h / 6 * by_y[i];
      by_k[n + i] = by_k[2 * n + i] = h / 3 * by_y[i];
    }
    pull_slope(n, x, at, k + 2 * n, h, by_k + 3 * n, by_x, by_y, by_k + 2 * n);
    pull_slope(n, x, at, k + n, h / 2, by_k + 2 * n, by_x, by_y, by_k + n);
    pull_slope(n, x, at, k, h / 2, by_k + n, by_x, by_y, by_k);
    pull_slope(n, x, at, nullptr, 0, by_k, by_x, by_y, nullptr);
  }
}

// ---- determinant

namespace {

// M = L U in place, its rows in the order of `rows`; the determinant.
double eliminate(Index n, double *M, Index *rows) {
  double result = 1;
  for (Index i = 0; i < n; ++i) rows[i] = i;
  for (Index c = 0; c < n; ++c) {
    Index pivot = c;
    for (Index r = c + 1; r < n; ++r)
      if (std::abs(M[r * n + c]) > std::abs(M[pivot * n + c])) pivot = r;
    if (pivot != c) {
      result = -result;
      std::swap_ranges(M + c * n, M + (c + 1) * n, M + pivot * n);
      std::swap(rows[c], rows[pivot]);
    }
    result *= M[c * n + c];
    for (Index r = c + 1; r < n; ++r) {
      double factor = M[r * n + c] /= M[c * n + c];
      for (Index j = c + 1; j < n; ++j) M[r * n + j] -= factor * M[c * n + j];
    }
  }
  return result;
}

std::vector<double> matrix_memory;
std::vector<Index> row_memory;

}  // namespace

extern "C" void determinant_primal(Index n, const double *A, double *y) {
  double *M = room(matrix_memory, 2 * n * n);
  row_memory.resize(n);
  std::copy(A, A + n * n, M);
  *y = eliminate(n, M, row_memory.data());
}

// det A times the transposed inverse: for each unit vector e, the solution of A^T x = e is a row of it.
extern "C" void determinant_gradient(Index n, const double *A, double *gradient) {
  double *M = room(matrix_memory, 2 * n * n), *B = M + n * n;
  row_memory.resize(n);
  std::copy(A, A + n * n, M);
  double value = eliminate(n, M, row_memory.data());
  // A^T = U^T L^T P: B = det U^-T, then L^-T B; its rows go where P says. Columns of B belong to unit vectors.
  std::fill(B, B + n * n, 0.0);
  for (Index i = 0; i < n; ++i) {
    B[i * n + i] = value;
    for (Index j = 0; j < i; ++j)
      for (Index c = 0; c <= j; ++c) B[i * n + c] -= M[j * n + i] * B[j * n + c];
    for (Index c = 0; c <= i; ++c) B[i * n + c] /= M[i * n + i];
  }
  for (Index i = n - 1; i >= 0; --i)
    for (Index j = i + 1; j < n; ++j)
      for (Index c = 0; c < n; ++c) B[i * n + c] -= M[j * n + i] * B[j * n + c];
  for (Index i = 0; i < n; ++i) std::copy(B + i * n, B + (i + 1) * n, gradient + row_memory[i] * n);
}
