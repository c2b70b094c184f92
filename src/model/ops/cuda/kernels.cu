// Kernels of the operations in the folder above, each of which says what is computed: what is written here
// is how. All tensors are contiguous; all numbers are 32-bit floats unless they are indices.
//
// Sums over many rows end in atomic additions: their order, and with it the last bits, differ from run to run.

#define EACH(i, n) \
    for (unsigned i = blockIdx.x * blockDim.x + threadIdx.x; i < (n); i += gridDim.x * blockDim.x)

// Natural logarithms of magnitudes are cut here, directions shorter than the root of the next fade to none:
// MAX_LOG_MAGNITUDE and SOFT of src/synthesis.rs.
#define MAX_LOG 6.0f
#define SOFT_DIRECTION 1e-4f

__device__ float warp_sum(float v) {
    for (int offset = 16; offset > 0; offset >>= 1) v += __shfl_xor_sync(0xffffffffu, v, offset);
    return v;
}

// Adds the sum over the block of `v` to `out`. All threads of the block have to come here.
__device__ void block_add(float v, float* out) {
    __shared__ float parts[32];
    unsigned lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
    v = warp_sum(v);
    __syncthreads();
    if (lane == 0) parts[warp] = v;
    __syncthreads();
    if (warp == 0) {
        v = lane < (blockDim.x >> 5) ? parts[lane] : 0.0f;
        v = warp_sum(v);
        if (lane == 0) atomicAdd(out, v);
    }
}

// ---- element by element

#define GELU_SCALE 1.595769f
#define GELU_CUBIC 0.044715f

extern "C" __global__ void gelu(const float* x, float* y, unsigned n) {
    EACH(i, n) {
        float v = x[i];
        y[i] = v / (1.0f + expf(-GELU_SCALE * v * (1.0f + GELU_CUBIC * v * v)));
    }
}

extern "C" __global__ void gelu_backward(const float* x, const float* g, float* dx, unsigned n) {
    EACH(i, n) {
        float v = x[i];
        float s = 1.0f / (1.0f + expf(-GELU_SCALE * v * (1.0f + GELU_CUBIC * v * v)));
        float slope = s + v * s * (1.0f - s) * GELU_SCALE * (1.0f + 3.0f * GELU_CUBIC * v * v);
        dx[i] = g[i] * slope;
    }
}

extern "C" __global__ void leaky_relu(const float* x, float* y, unsigned n, float slope) {
    EACH(i, n) y[i] = x[i] > 0.0f ? x[i] : slope * x[i];
}

extern "C" __global__ void leaky_relu_backward(
    const float* x, const float* g, float* dx, unsigned n, float slope) {
    EACH(i, n) dx[i] = x[i] > 0.0f ? g[i] : slope * g[i];
}

extern "C" __global__ void add_bias(float* y, const float* bias, unsigned c, unsigned n) {
    EACH(i, n) y[i] += bias[i % c];
}

extern "C" __global__ void absolute(float* x, unsigned n) {
    EACH(i, n) x[i] = fabsf(x[i]);
}

// ---- rows of c: a warp each

#define LANE (threadIdx.x & 31)
#define EACH_WARP(row, rows)                                                             \
    for (unsigned row = (blockIdx.x * blockDim.x + threadIdx.x) / 32; row < (rows);      \
         row += gridDim.x * blockDim.x / 32)

// The mean of a row, and one over its deviation.
__device__ float moments(const float* x, unsigned c, float epsilon, float* mean) {
    float sum = 0.0f, squares = 0.0f;
    for (unsigned i = LANE; i < c; i += 32) sum += x[i];
    *mean = warp_sum(sum) / c;
    for (unsigned i = LANE; i < c; i += 32) squares += (x[i] - *mean) * (x[i] - *mean);
    return 1.0f / sqrtf(warp_sum(squares) / c + epsilon);
}

extern "C" __global__ void normalize(const float* x, float* y, unsigned rows, unsigned c, float epsilon) {
    EACH_WARP(row, rows) {
        const float* from = x + row * c;
        float* to = y + row * c;
        float mean, inverse = moments(from, c, epsilon, &mean);
        for (unsigned i = LANE; i < c; i += 32) to[i] = (from[i] - mean) * inverse;
    }
}

extern "C" __global__ void normalize_backward(
    const float* x, const float* g, float* dx, unsigned rows, unsigned c, float epsilon) {
    EACH_WARP(row, rows) {
        const float *from = x + row * c, *grad = g + row * c;
        float* to = dx + row * c;
        float mean, inverse = moments(from, c, epsilon, &mean), g_sum = 0.0f, g_dot = 0.0f;
        for (unsigned i = LANE; i < c; i += 32) {
            g_sum += grad[i];
            g_dot += grad[i] * (from[i] - mean) * inverse;
        }
        float g_mean = warp_sum(g_sum) / c;
        g_dot = warp_sum(g_dot) / c;
        for (unsigned i = LANE; i < c; i += 32) {
            to[i] = inverse * (grad[i] - g_mean - (from[i] - mean) * inverse * g_dot);
        }
    }
}

// out[c] += sum over rows of a * b, or of a where b is null; a thread has a channel of `chunk` rows.
extern "C" __global__ void column_sums(
    const float* a, const float* b, float* out, unsigned rows, unsigned c, unsigned chunk, unsigned n) {
    EACH(i, n) {
        unsigned channel = i % c, first = i / c * chunk, last = min(first + chunk, rows);
        float sum = 0.0f;
        for (unsigned row = first; row < last; row++) {
            float v = a[row * c + channel];
            sum += b ? v * b[row * c + channel] : v;
        }
        atomicAdd(&out[channel], sum);
    }
}

extern "C" __global__ void scaled_residual(
    const float* x, const float* h, const float* gain, float* y, unsigned c, unsigned n) {
    EACH(i, n) y[i] = x[i] + h[i] * gain[i % c];
}

extern "C" __global__ void times_gain(
    const float* g, const float* gain, float* dh, unsigned c, unsigned n) {
    EACH(i, n) dh[i] = g[i] * gain[i % c];
}

// ---- depthwise convolution over frames

#define MAX_TAPS 16

extern "C" __global__ void depthwise(
    const float* x, const float* w, const float* bias, float* y,
    unsigned frames, unsigned c, unsigned taps, unsigned n) {
    EACH(i, n) {
        unsigned channel = i % c, t = i / c % frames;
        float sum = bias[channel];
        for (unsigned j = 0; j < taps; j++) {
            unsigned back = taps - 1 - j;
            if (t >= back) sum += w[j * c + channel] * x[i - back * c];
        }
        y[i] = sum;
    }
}

extern "C" __global__ void depthwise_dx(
    const float* w, const float* g, float* dx, unsigned frames, unsigned c, unsigned taps, unsigned n) {
    EACH(i, n) {
        unsigned channel = i % c, t = i / c % frames;
        float sum = 0.0f;
        for (unsigned j = 0; j < taps; j++) {
            unsigned ahead = taps - 1 - j;
            if (t + ahead < frames) sum += w[j * c + channel] * g[i + ahead * c];
        }
        dx[i] = sum;
    }
}

// dw (taps, c) and behind it the bias's gradient (c); a thread has a channel of `chunk` rows.
extern "C" __global__ void depthwise_dw(
    const float* x, const float* g, float* dw,
    unsigned rows, unsigned frames, unsigned c, unsigned taps, unsigned chunk, unsigned n) {
    EACH(i, n) {
        unsigned channel = i % c, first = i / c * chunk, last = min(first + chunk, rows);
        float sums[MAX_TAPS], bias = 0.0f;
#pragma unroll
        for (unsigned j = 0; j < MAX_TAPS; j++) sums[j] = 0.0f;
        for (unsigned row = first; row < last; row++) {
            unsigned t = row % frames;
            float v = g[row * c + channel];
            bias += v;
#pragma unroll
            for (unsigned j = 0; j < MAX_TAPS; j++) {
                if (j < taps && t + j + 1 >= taps) {
                    sums[j] += x[(row + j + 1 - taps) * c + channel] * v;
                }
            }
        }
#pragma unroll
        for (unsigned j = 0; j < MAX_TAPS; j++) {
            if (j < taps) atomicAdd(&dw[j * c + channel], sums[j]);
        }
        atomicAdd(&dw[taps * c + channel], bias);
    }
}

// ---- windowed frames and their adjoint, overlap-add

// Frame t of an item begins at hop t + offset; outside the item there is silence. `w` may be null.
extern "C" __global__ void frames(
    const float* x, const float* w, float* out,
    unsigned samples, unsigned count, unsigned window, unsigned hop, int offset, unsigned n) {
    EACH(i, n) {
        unsigned k = i % window, t = i / window % count, item = i / window / count;
        int at = (int)(hop * t + k) + offset;
        float v = at >= 0 && at < (int)samples ? x[item * samples + at] : 0.0f;
        out[i] = w ? w[k] * v : v;
    }
}

extern "C" __global__ void overlap_add(
    const float* g, const float* w, float* out,
    unsigned samples, unsigned count, unsigned window, unsigned hop, int offset, unsigned n, unsigned add) {
    EACH(i, n) {
        unsigned item = i / samples;
        int at = (int)(i % samples) - offset;
        int first = at < (int)window ? 0 : (at - (int)window) / (int)hop + 1;
        int last = at < 0 ? -1 : min(at / (int)hop, (int)count - 1);
        float sum = 0.0f;
        for (int t = first; t <= last; t++) {
            unsigned k = at - t * hop;
            sum += w[k] * g[(item * count + t) * window + k];
        }
        out[i] = add ? out[i] + sum : sum;
    }
}

// ---- bands: lines between values, and sums

__device__ float between(const float* values, unsigned count, unsigned band, float way) {
    float low = values[band], high = values[min(band + 1, count - 1)];
    return low + way * (high - low);
}

// What `bins` have, shared out to a band; begin[b] is the first bin that lies at or above band b.
#define GATHERED(sum, value)                                               \
    {                                                                      \
        for (unsigned bin = begin[band]; bin < begin[band + 1]; bin++) {   \
            float share = band + 1 < count ? 1.0f - way[bin] : 1.0f;       \
            sum += share * (value);                                        \
        }                                                                  \
        if (band > 0) {                                                    \
            for (unsigned bin = begin[band - 1]; bin < begin[band]; bin++) \
                sum += way[bin] * (value);                                 \
        }                                                                  \
    }

// To columns of rows of `width`, from the column `first` on.
extern "C" __global__ void gather_bands(
    const float* values, const unsigned* begin, const float* way, float* out,
    unsigned bins, unsigned count, unsigned width, unsigned first, unsigned n) {
    EACH(i, n) {
        unsigned band = i % count, row = i / count;
        const float* v = values + row * bins;
        float sum = 0.0f;
        GATHERED(sum, v[bin]);
        out[row * width + first + band] = sum;
    }
}

// Levels of bands in spectra (rows, 2 bins), real parts first: `level` of src/bands.rs.
extern "C" __global__ void band_levels(
    const float* s, const unsigned* begin, const float* way, const float* gains, float* out,
    unsigned bins, unsigned count, unsigned n, float floor, float offset, float scale) {
    EACH(i, n) {
        unsigned band = i % count, row = i / count;
        const float *re = s + row * 2 * bins, *im = re + bins;
        float sum = 0.0f;
        GATHERED(sum, re[bin] * re[bin] + im[bin] * im[bin]);
        out[i] = scale * (logf(sum * gains[band] + floor) + offset);
    }
}

// One over the root of the mean energy in bands of spectra (rows, 2 bins).
extern "C" __global__ void excitation_gains(
    const float* s, const unsigned* begin, const float* way, const float* weights, float* out,
    unsigned bins, unsigned count, unsigned n, float floor) {
    EACH(i, n) {
        unsigned band = i % count, row = i / count;
        const float *re = s + row * 2 * bins, *im = re + bins;
        float sum = 0.0f;
        GATHERED(sum, re[bin] * re[bin] + im[bin] * im[bin]);
        out[i] = 1.0f / sqrtf(sum * weights[band] + floor);
    }
}

// ---- the inverse STFT: src/model/ops/inverse_stft.rs and src/synthesis.rs

// What a frame's row of the head holds: log magnitudes of `learned` bins and of `bands`; real, then imaginary
// directions of the learned bins; `voices`; real, then imaginary parts of what leads `led` bins above the learned
// ones. Noise is in tables (period, bins).
struct Shape {
    unsigned frames, bins, learned, bands, excited, voices, period, led;
};

__device__ unsigned width_of(Shape s) { return 3 * s.learned + s.bands + s.voices + 2 * s.led; }

__device__ unsigned frame_number(Shape s, const unsigned* firsts, unsigned row) {
    return (firsts[row / s.frames] + row % s.frames) % s.period;
}

extern "C" __global__ void learned_spectrum(
    const float* head, const float* shares, const float* noise_re, const float* noise_im,
    const unsigned* firsts, float* out, Shape s, unsigned n) {
    EACH(i, n) {
        unsigned k = i % s.learned, row = i / s.learned;
        unsigned noise = frame_number(s, firsts, row) * s.bins + k;
        const float* h = head + row * width_of(s);
        unsigned directions = s.learned + s.bands;
        float keep = 1.0f - shares[k];
        float a = noise_re[noise] + keep * h[directions + k];
        float b = noise_im[noise] + keep * h[directions + s.learned + k];
        float gain = expf(fminf(h[k], MAX_LOG)) / sqrtf(a * a + b * b + SOFT_DIRECTION);
        out[row * 2 * s.learned + k] = gain * a;
        out[row * 2 * s.learned + s.learned + k] = gain * b;
    }
}

// What is mixed in a bin above the learned ones, `j` counted from these.
struct Mix {
    float noise_re, noise_im, excited_re, excited_im, voiced, rest;
};

__device__ Mix mix_of(
    Shape s, unsigned row, unsigned j, const float* h, const float* noise_re, const float* noise_im,
    unsigned noise, const float* excitation, const float* gains, const unsigned* voice_band,
    const float* voice_way) {
    Mix m;
    m.noise_re = noise_re[noise], m.noise_im = noise_im[noise];
    m.excited_re = m.excited_im = m.voiced = 0.0f;
    m.rest = 1.0f;
    if (j < s.excited) {
        unsigned band = voice_band[j];
        float way = voice_way[j];
        float voicing = between(h + 3 * s.learned + s.bands, s.voices, band, way);
        float gain = between(gains + row * s.voices, s.voices, band, way);
        const float* e = excitation + row * 2 * s.excited + j;
        m.voiced = 1.0f / (1.0f + expf(-voicing));
        m.rest = sqrtf(1.0f - m.voiced * m.voiced);
        m.excited_re = gain * e[0];
        m.excited_im = gain * e[s.excited];
    }
    return m;
}

extern "C" __global__ void whole_spectrum(
    const float* head, const float* low, const float* noise_re, const float* noise_im,
    const unsigned* firsts, const float* excitation, const float* gains,
    const unsigned* band, const float* way, const unsigned* voice_band, const float* voice_way,
    float* out, Shape s, unsigned n) {
    EACH(i, n) {
        unsigned k = i % s.bins, row = i / s.bins;
        float re, im;
        if (k < s.learned) {
            re = low[row * 2 * s.learned + k];
            im = low[row * 2 * s.learned + s.learned + k];
        } else {
            unsigned j = k - s.learned;
            const float* h = head + row * width_of(s);
            float log = between(h + s.learned, s.bands, band[j], way[j]);
            float magnitude = expf(fminf(log, MAX_LOG));
            unsigned noise = frame_number(s, firsts, row) * s.bins + k;
            Mix m = mix_of(
                s, row, j, h, noise_re, noise_im, noise, excitation, gains, voice_band, voice_way);
            re = m.voiced * m.excited_re + m.rest * m.noise_re;
            im = m.voiced * m.excited_im + m.rest * m.noise_im;
            if (j < s.led) {
                const float* lead = h + 3 * s.learned + s.bands + s.voices + j;
                float a = lead[0], b = lead[s.led];
                float rest = 1.0f / sqrtf(1.0f + a * a + b * b);
                re = rest * (re + a), im = rest * (im + b);
            }
            re *= magnitude, im *= magnitude;
        }
        if (k == 0 || k == s.bins - 1) im = 0.0f;
        out[row * 2 * s.bins + k] = re;
        out[row * 2 * s.bins + s.bins + k] = im;
    }
}

// Gradients of the learned bins go to `d_head`; of the log magnitudes above and of voicing, by bin, to
// `d_log` (rows, bins - learned) and `d_voicing` (rows, excited).
extern "C" __global__ void spectrum_backward(
    const float* head, const float* shares, const float* noise_re, const float* noise_im,
    const unsigned* firsts, const float* excitation, const float* gains,
    const unsigned* band, const float* way, const unsigned* voice_band, const float* voice_way,
    const float* d_spectrum, float* d_head, float* d_log, float* d_voicing, Shape s, unsigned n) {
    EACH(i, n) {
        unsigned k = i % s.bins, row = i / s.bins, width = width_of(s);
        const float* h = head + row * width;
        float d_re = d_spectrum[row * 2 * s.bins + k];
        float d_im = d_spectrum[row * 2 * s.bins + s.bins + k];
        if (k == 0 || k == s.bins - 1) d_im = 0.0f;
        unsigned noise = frame_number(s, firsts, row) * s.bins + k;
        if (k < s.learned) {
            unsigned directions = s.learned + s.bands;
            float keep = 1.0f - shares[k];
            float a = noise_re[noise] + keep * h[directions + k];
            float b = noise_im[noise] + keep * h[directions + s.learned + k];
            float magnitude = expf(fminf(h[k], MAX_LOG));
            float inverse = 1.0f / sqrtf(a * a + b * b + SOFT_DIRECTION);
            float u = a * inverse, v = b * inverse;
            float along = d_re * u + d_im * v;
            float gain = keep * magnitude * inverse;
            float* d = d_head + row * width;
            d[k] = h[k] < MAX_LOG ? magnitude * along : 0.0f;
            d[directions + k] = gain * (d_re - u * along);
            d[directions + s.learned + k] = gain * (d_im - v * along);
        } else {
            unsigned j = k - s.learned;
            float log = between(h + s.learned, s.bands, band[j], way[j]);
            float magnitude = expf(fminf(log, MAX_LOG));
            Mix m = mix_of(
                s, row, j, h, noise_re, noise_im, noise, excitation, gains, voice_band, voice_way);
            float with_noise = d_re * m.noise_re + d_im * m.noise_im;
            float with_excitation = d_re * m.excited_re + d_im * m.excited_im;
            float along = m.voiced * with_excitation + m.rest * with_noise, to_base = 1.0f;
            if (j < s.led) {
                unsigned first = 3 * s.learned + s.bands + s.voices + j;
                float a = h[first], b = h[first + s.led];
                float rest = 1.0f / sqrtf(1.0f + a * a + b * b);
                float led = rest * (along + d_re * a + d_im * b);
                d_head[row * width + first] = magnitude * rest * (d_re - rest * a * led);
                d_head[row * width + first + s.led] = magnitude * rest * (d_im - rest * b * led);
                along = led, to_base = rest;
            }
            if (j < s.excited) {
                // The derivatives of the logistic function v and of sqrt(1 - v^2) by voicing.
                float d_voiced = m.voiced * (1.0f - m.voiced);
                float d_rest =
                    -m.voiced * m.voiced * sqrtf((1.0f - m.voiced) / (1.0f + m.voiced));
                d_voicing[row * s.excited + j] =
                    to_base * magnitude * (d_voiced * with_excitation + d_rest * with_noise);
            }
            d_log[row * (s.bins - s.learned) + j] = log < MAX_LOG ? magnitude * along : 0.0f;
        }
    }
}

// ---- the spectral loss: src/model/ops/spectral

struct Terms {
    // Shares and weights multiplied; `complex` is to be divided by the size.
    float mel, log, linear, complex, power, scale;
    // Values below these are silence, or make the compression linear; the least size.
    float floor, tiny, soft, least;
};

extern "C" __global__ void magnitudes(const float* s, float* out, unsigned bins, unsigned n, float tiny) {
    EACH(i, n) {
        const float* v = s + i / bins * 2 * bins + i % bins;
        out[i] = sqrtf(v[0] * v[0] + v[bins] * v[bins] + tiny);
    }
}

// Log-mel distances of magnitudes in bands: their sum to `sum`, their gradient in `a`'s place.
extern "C" __global__ void mel_terms(float* a, const float* b, float* sum, unsigned n, Terms t) {
    float total = 0.0f;
    EACH(i, n) {
        float x = a[i];
        float difference = logf(fmaxf(x, t.floor)) - logf(fmaxf(b[i], t.floor));
        total += fabsf(difference);
        a[i] = x > t.floor ? copysignf(t.mel, difference) / x : 0.0f;
    }
    block_add(total, sum);
}

__device__ float compressed_gain(float power, Terms t) {
    return expf(0.5f * (t.power - 1.0f) * logf(power + t.soft));
}

// Sum of the compressed magnitudes of the lowest `top` bins.
extern "C" __global__ void compressed_size(
    const float* s, float* sum, unsigned bins, unsigned top, unsigned n, Terms t) {
    float total = 0.0f;
    EACH(i, n) {
        const float* v = s + i / top * 2 * bins + i % top;
        float power = (v[0] * v[0] + v[bins] * v[bins] + t.tiny) * t.scale * t.scale;
        total += sqrtf(power) * compressed_gain(power, t);
    }
    block_add(total, sum);
}

// The distances of spectra, their sums to `sums` (log, linear, complex over size), and the gradient of all terms in the
// spectrum `x`; `d_magnitude` is that of the mel term in x's magnitudes, or null. `count` is the number of
// compressed magnitudes that went into `size`.
extern "C" __global__ void spectrum_terms(
    const float* x, const float* y, const float* d_magnitude, const float* size, float* sums, float* dx,
    unsigned bins, unsigned top, unsigned n, float count, Terms t) {
    float log_sum = 0.0f, linear_sum = 0.0f, complex_sum = 0.0f;
    float complex = t.complex == 0.0f ? 0.0f : t.complex / fmaxf(size[0] / count, t.least);
    EACH(i, n) {
        unsigned k = i % bins, at = i / bins * 2 * bins + k;
        float xr = x[at], xi = x[at + bins], yr = y[at], yi = y[at + bins];
        float xm = sqrtf(xr * xr + xi * xi + t.tiny), gr = 0.0f, gi = 0.0f;
        float along = d_magnitude ? d_magnitude[i] : 0.0f;
        if (t.log > 0.0f || t.linear > 0.0f) {
            float ym = sqrtf(yr * yr + yi * yi + t.tiny);
            float difference = logf(fmaxf(xm, t.floor)) - logf(fmaxf(ym, t.floor));
            log_sum += fabsf(difference);
            linear_sum += fabsf(xm - ym);
            along += (xm > t.floor ? copysignf(t.log, difference) / xm : 0.0f);
            along += copysignf(t.linear, xm - ym);
        }
        if (complex > 0.0f && k < top) {
            float ar = xr * t.scale, ai = xi * t.scale, br = yr * t.scale, bi = yi * t.scale;
            float a_power = ar * ar + ai * ai + t.soft;
            float a_gain = expf(0.5f * (t.power - 1.0f) * logf(a_power));
            float b_gain = compressed_gain(br * br + bi * bi, t);
            float dr = ar * a_gain - br * b_gain, di = ai * a_gain - bi * b_gain;
            float distance = sqrtf(dr * dr + di * di + t.soft);
            complex_sum += distance;
            float ur = dr / distance, ui = di / distance;
            float radial = (t.power - 1.0f) * a_gain / a_power * (ar * ur + ai * ui);
            gr = complex * t.scale * (a_gain * ur + radial * ar);
            gi = complex * t.scale * (a_gain * ui + radial * ai);
        }
        dx[at] = gr + along / xm * xr;
        dx[at + bins] = gi + along / xm * xi;
    }
    if (t.log > 0.0f || t.linear > 0.0f) {
        block_add(log_sum, &sums[0]);
        block_add(linear_sum, &sums[1]);
    }
    if (complex > 0.0f) block_add(complex_sum * complex / t.complex, &sums[2]);
}

// ---- codes

// The nearest of `size` codes of `width` numbers for each of n vectors, the first of those equally near.
extern "C" __global__ void nearest_code(
    const float* vectors, const float* codes, unsigned* out, unsigned size, unsigned width, unsigned n) {
    EACH_WARP(vector, n) {
        const float* v = vectors + vector * width;
        float best = __int_as_float(0xff800000);
        unsigned code = 0;
        for (unsigned i = LANE; i < size; i += 32) {
            const float* c = codes + i * width;
            float score = 0.0f;
            for (unsigned j = 0; j < width; j++) score += c[j] * (v[j] - 0.5f * c[j]);
            if (score > best) best = score, code = i;
        }
        for (int offset = 16; offset > 0; offset >>= 1) {
            float other = __shfl_xor_sync(0xffffffffu, best, offset);
            unsigned other_code = __shfl_xor_sync(0xffffffffu, code, offset);
            if (other > best || (other == best && other_code < code)) {
                best = other;
                code = other_code;
            }
        }
        if (LANE == 0) out[vector] = code;
    }
}

// ---- the optimizer: src/train/optimizer.rs

extern "C" __global__ void square_sum(const float* x, float* out, unsigned n) {
    float sum = 0.0f;
    EACH(i, n) sum += x[i] * x[i];
    block_add(sum, out);
}

struct Step {
    float scale, first, second, rate, correction, decay, average;
};

extern "C" __global__ void adamw(
    float* p, float* first, float* second, float* average, const float* g, unsigned n, Step s) {
    EACH(i, n) {
        float gradient = s.scale * g[i];
        float m = first[i] + s.first * (gradient - first[i]);
        float v = second[i] + s.second * (gradient * gradient - second[i]);
        float value = p[i] - (s.decay * p[i] + s.rate * m / (sqrtf(v * s.correction) + 1e-8f));
        first[i] = m;
        second[i] = v;
        p[i] = value;
        average[i] += s.average * (value - average[i]);
    }
}
