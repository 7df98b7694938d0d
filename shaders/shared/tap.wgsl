// How a window slides over an image, along one axis.

// Which input pixel a kernel tap reads for an output pixel; what is not below the size is padding
// (one comparison will do: left of the image wraps to a huge number).
fn tap(position: u32, k: u32, stride: u32, dil: u32, pad: u32) -> u32 {
    return position * stride + k * dil - pad;
}

// The other way: which output pixel reads an input pixel through a kernel tap. 0xffffffff if none does.
fn untap(position: u32, k: u32, stride: u32, dil: u32, pad: u32) -> u32 {
    let shifted = position + pad;
    let back = k * dil;
    if (shifted < back || (shifted - back) % stride != 0u) { return 0xffffffffu; }
    return (shifted - back) / stride;
}
